//! What a core tells its operator: true, and a page at a time.

mod host;

use broker_core::access::{Identity, Permissions};
use broker_core::counters::DropReason;
use broker_core::sight::{
    Census, FindSessions, FindSubscriptions, Page, Place, Said, Session, Subscription, TenantCensus,
    TenantTraffic, Totals, Traffic, What,
};
use host::exchange::lasting;
use host::{Node, asking};
use mqtt::encode::PublishOut;
use mqtt::{Connect, QoS, Version};
use std::sync::Arc;

fn totals(node: &Node, core: u16) -> Totals {
    match node.ask(core, What::Totals) {
        Said::Totals(totals) => *totals,
        other => panic!("totals, not {other:?}"),
    }
}

/// All pages of a core.
fn pages<T>(mut page: impl FnMut(u32) -> Page<T>) -> Vec<Page<T>> {
    let (mut pages, mut from) = (Vec::new(), Some(0));
    while let Some(place) = from {
        let page = page(place);
        from = page.next;
        pages.push(page);
    }
    pages
}

fn tenant_pages(node: &Node, core: u16) -> Vec<Page<TenantTraffic>> {
    pages(|from| match node.ask(core, What::Tenants { from }) {
        Said::Tenants(page) => page,
        other => panic!("tenants, not {other:?}"),
    })
}

fn census_pages(node: &Node, core: u16) -> Vec<Page<TenantCensus>> {
    pages(|from| match node.ask(core, What::Census { from }) {
        Said::Census(page) => page,
        other => panic!("a census, not {other:?}"),
    })
}

fn census(node: &Node, core: u16) -> Census {
    let mut sum = Census::default();
    census_pages(node, core).into_iter().flat_map(|page| page.items).for_each(|item| sum.add(item.census));
    sum
}

fn session_pages(node: &Node, core: u16, find: &FindSessions) -> Vec<Page<Session>> {
    pages(|from| match node.ask(core, What::Sessions(Box::new(FindSessions { from, ..find.clone() }))) {
        Said::Sessions(page) => page,
        other => panic!("sessions, not {other:?}"),
    })
}

fn subscription_pages(node: &Node, core: u16, find: &FindSubscriptions) -> Vec<Vec<Subscription>> {
    let (mut pages, mut from) = (Vec::new(), Some(Place::default()));
    while let Some(from_there) = from {
        let find = FindSubscriptions { from: from_there, ..find.clone() };
        let Said::Subscriptions(page) = node.ask(core, What::Subscriptions(Box::new(find))) else {
            panic!("subscriptions")
        };
        from = page.next;
        pages.push(page.items);
    }
    pages
}

/// Connects a client as one of a tenant.
fn connect_to(node: &Node, tenant: &str, client_id: &str) -> host::Client {
    connect_as(node, tenant, &Connect::new(Version::V311, client_id))
}

/// The same with any CONNECT.
fn connect_as(node: &Node, tenant: &str, connect: &Connect<'_>) -> host::Client {
    let mut client = node.accept();
    client.send_connect(connect);
    let asked = node.question().expect("a question about the client");
    let tenant = Arc::from(tenant);
    let identity = Identity { tenant, permissions: Permissions::All, ..asking::identity() };
    node.answer(&asked, broker_core::access::Verdict::Allow { identity, data: None });
    assert!(!client.expect_connack().reason.is_error());
    client
}

/// The totals of a core are its counters, and what it holds now.
#[test]
fn totals_are_the_cores_own() {
    let node = Node::new(1);
    let mut client = node.connect(Version::V5, "a");
    client.retain("t", QoS::AtMostOnce, "kept");
    let said = totals(&node, 0);
    assert_eq!((said.counters.clients_greeted, said.counters.publishes_received), (1, [1, 0, 0]));
    assert_eq!((said.usage.connections, said.usage.sessions), (1, 1));
    assert_eq!((said.usage.retained, said.usage.tenants, said.usage.unprocessed_bytes), (1, 1, 0));
    assert_eq!(said.counters.clients_greeted, node.count(|core| core.counters().clients_greeted));
}

/// Messages are counted for the tenant whose clients send and receive them, by QoS and direction, with the bytes of
/// their payloads; the same messages as the core's own counters have.
#[test]
fn messages_are_counted_by_tenant() {
    // Of sessions that end with their connection, and of those that stay.
    [true, false].into_iter().for_each(count_messages_by_tenant);
}

fn count_messages_by_tenant(clean_start: bool) {
    let node = asking::asking(1);
    let mut publishers = ["red", "blue"].map(|tenant| connect_to(&node, tenant, &format!("{tenant}-p")));
    let mut subscribers = ["red", "blue"].map(|tenant| {
        let id = format!("{tenant}-s");
        connect_as(&node, tenant, &Connect { clean_start, ..Connect::new(Version::V311, &id) })
    });
    for subscriber in &mut subscribers {
        subscriber.subscribe("zero", QoS::AtMostOnce);
        subscriber.subscribe("one", QoS::AtLeastOnce);
        subscriber.subscribe("two", QoS::ExactlyOnce);
    }
    for (publisher, times) in publishers.iter_mut().zip([1, 2]) {
        for _ in 0..times {
            publisher.publish_fully("zero", QoS::AtMostOnce, "1");
            publisher.publish_fully("one", QoS::AtLeastOnce, "22");
            publisher.publish_fully("two", QoS::ExactlyOnce, "333");
        }
    }
    subscribers.iter_mut().for_each(|subscriber| drop(subscriber.drain()));
    let [page] = &tenant_pages(&node, 0)[..] else { panic!("one page") };
    let traffic = |name: &str| -> Traffic {
        page.items.iter().find(|tenant| &*tenant.tenant == name).expect("it is there").traffic
    };
    for (tenant, times) in [("red", 1), ("blue", 2)] {
        let Traffic { received, sent, .. } = traffic(tenant);
        assert_eq!((received.messages, received.payload_bytes), ([times; 3], [1, 2, 3].map(|n| n * times)));
        assert_eq!(sent, received, "{tenant}");
    }
    let mut sum = traffic("red");
    sum.add(&traffic("blue"));
    let counters = totals(&node, 0).counters;
    assert_eq!(counters.publishes_received, sum.received.messages);
    assert_eq!(counters.publishes_sent, sum.sent.messages);
}

/// What a tenant's clients did not get is counted for it under the reason, and for nobody else.
#[test]
fn losses_are_counted_by_tenant() {
    let node = asking::asking(1);
    let mut publisher = connect_to(&node, "red", "p");
    let mut subscriber = connect_to(&node, "red", "s");
    let _other = connect_to(&node, "blue", "o");
    subscriber.subscribe("t", QoS::AtMostOnce);
    publisher.publish("$SYS/x", QoS::AtMostOnce, "mine");
    let expired = PublishOut { topic: "t", message_expiry: Some(0), payload: b"x", ..PublishOut::default() };
    let mut late = node.accept();
    late.send_connect(&Connect::new(Version::V5, "late"));
    let asked = node.question().expect("a question about the client");
    let identity = Identity { tenant: Arc::from("red"), ..asking::identity() };
    node.answer(&asked, broker_core::access::Verdict::Allow { identity, data: None });
    late.expect_connack();
    late.publish_with(&expired);
    let [page] = &tenant_pages(&node, 0)[..] else { panic!("one page") };
    for TenantTraffic { tenant, traffic, .. } in &page.items {
        let dropped = |reason: DropReason| traffic.dropped[reason as usize];
        let expected = if &**tenant == "red" { (1, 1) } else { (0, 0) };
        assert_eq!((dropped(DropReason::NoPermission), dropped(DropReason::Expired)), expected, "{tenant}");
        assert_eq!(traffic.dropped.iter().sum::<u64>(), expected.0 + expected.1, "{tenant}");
    }
    assert_eq!(totals(&node, 0).counters.dropped.iter().sum::<u64>(), 2);
}

/// The census tells clients that are there from sessions that wait, and says what waits in them.
#[test]
fn census_counts_sessions_and_queues() {
    let node = Node::new(1);
    let mut away = node.connect_with(&lasting(Version::V5, "away"));
    away.subscribe("t/+", QoS::AtLeastOnce);
    away.subscribe("u", QoS::AtLeastOnce);
    away.drop_socket();
    let mut client = node.connect(Version::V311, "here");
    client.publish_fully("t/1", QoS::AtLeastOnce, "payload");
    client.publish_fully("t/2", QoS::AtLeastOnce, "payload");
    let expected = Census {
        online: 1,
        away: 1,
        subscriptions: 2,
        queued_messages: 2,
        queued_bytes: 2 * ("t/1".len() + "payload".len()) as u64,
    };
    assert_eq!(census(&node, 0), expected);
}

/// However many sessions and tenants there are, a page is small, and all pages together have each of them once.
#[test]
fn pages_are_small_and_complete() {
    let node = asking::asking(2);
    let count = 1500;
    let clients: Vec<_> =
        (0..count).map(|n| connect_to(&node, &format!("t{}", n % 700), &format!("c{n}"))).collect();
    let mut online = 0;
    for core in [0, 1] {
        let pages = census_pages(&node, core);
        let sizes: Vec<u64> =
            pages.iter().map(|page| page.items.iter().map(|item| item.census.online).sum()).collect();
        assert!(sizes.iter().all(|size| *size <= 512), "{sizes:?}");
        online += sizes.iter().sum::<u64>();
        let mut names: Vec<_> = tenant_pages(&node, core)
            .into_iter()
            .flat_map(|page| page.items)
            .map(|item| item.tenant)
            .collect();
        assert_eq!(names.len(), totals(&node, core).usage.tenants);
        names.sort();
        names.dedup();
        assert_eq!(names.len(), totals(&node, core).usage.tenants, "each once");
        assert!(tenant_pages(&node, core).iter().all(|page| page.items.len() <= 128));
        // Searches that find nothing look at so many, too.
        let nobody = FindSessions { user: Some("nobody".into()), max: 1000, ..FindSessions::default() };
        let all = FindSessions { max: 1000, ..FindSessions::default() };
        let (none, all) = (session_pages(&node, core, &nobody), session_pages(&node, core, &all));
        assert!(none.len() == pages.len() && none.iter().all(|page| page.items.is_empty()));
        assert!(all.len() >= pages.len() && all.iter().all(|page| page.items.len() <= 512));
    }
    assert_eq!(online, count);
    drop(clients);
}

/// Names may have 64 KiB: a page of them ends sooner, and so does one that looks through them and finds nothing.
#[test]
fn long_names_end_a_page() {
    let node = Node::new(1);
    let clients: Vec<_> = (0..40)
        .map(|n| {
            let mut client = node.connect(Version::V5, &format!("{n:02}{}", "x".repeat(30_000)));
            client.subscribe(&format!("{n:02}{}", "y".repeat(30_000)), QoS::AtMostOnce);
            client
        })
        .collect();
    let (all, none) = (None, Some("nobody".into()));
    for (client_contains, found) in [(all.clone(), 40), (none.clone(), 0)] {
        let find = FindSessions { client_contains, max: 1000, ..FindSessions::default() };
        let pages = session_pages(&node, 0, &find);
        // 40 of 30 kB in pages of 256 KiB, and one for the logs.
        assert!((5..10).contains(&pages.len()), "{} pages", pages.len());
        assert!(pages.iter().all(|page| page.items.len() <= 9));
        assert_eq!(pages.iter().map(|page| page.items.len()).sum::<usize>(), found);
    }
    for (filter_contains, found) in [(all, 40), (none, 0)] {
        let find = FindSubscriptions { filter_contains, max: 1000, ..FindSubscriptions::default() };
        let pages = subscription_pages(&node, 0, &find);
        assert!((10..20).contains(&pages.len()), "{} pages", pages.len());
        assert!(pages.iter().all(|items| items.len() <= 5));
        assert_eq!(pages.iter().flatten().count(), found);
    }
    drop(clients);
}
