//! A client of the `rumqttc` library whose answers and messages can be waited for. Included once per
//! protocol version: `crate::library` says which of the library's two clients it is.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::fmt::Debug;
use std::future::Future;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use crate::library::{AsyncClient, ConnAck, ConnectionError, Event, MqttOptions, Packet, Publish, QoS};
use crate::support::DEADLINE;

/// Requests that may wait for the library.
const REQUESTS_MAX: usize = 64;

/// A connected client. A task of its own keeps its connection going, and ends with it.
pub struct Client {
    /// For what the functions here do not wrap.
    pub requests: AsyncClient,
    pub connack: ConnAck,
    messages: UnboundedReceiver<Publish>,
    answers: UnboundedReceiver<Packet>,
    polling: JoinHandle<ConnectionError>,
}

/// Waits for what must come; a test that waits for too long fails.
pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("something must happen before the deadline")
}

impl Client {
    /// Connects.
    pub async fn connect(options: MqttOptions) -> Client {
        let id = options.client_id();
        match Client::try_connect(options).await {
            Ok(client) => client,
            Err(error) => panic!("{id} cannot connect: {error}"),
        }
    }

    /// Connects, or says why not.
    pub async fn try_connect(options: MqttOptions) -> Result<Client, ConnectionError> {
        let (requests, mut eventloop) = AsyncClient::new(options, REQUESTS_MAX);
        let connack = loop {
            if let Event::Incoming(Packet::ConnAck(connack)) = within(eventloop.poll()).await? {
                break connack;
            }
        };
        let (messages_in, messages) = unbounded_channel();
        let (answers_in, answers) = unbounded_channel();
        let polling = tokio::spawn(async move {
            loop {
                match eventloop.poll().await {
                    Ok(Event::Incoming(Packet::Publish(publish))) => drop(messages_in.send(publish)),
                    Ok(Event::Incoming(packet)) => drop(answers_in.send(packet)),
                    Ok(Event::Outgoing(_)) => {}
                    Err(error) => return error,
                }
            }
        });
        Ok(Client { requests, connack, messages, answers, polling })
    }

    /// Subscribes, and waits for the answer.
    pub async fn subscribe(&mut self, filter: &str, qos: QoS) -> Packet {
        self.requests.subscribe(filter, qos).await.expect("the client runs");
        self.answer(|packet| matches!(packet, Packet::SubAck(_))).await
    }

    /// Unsubscribes, and waits for the answer.
    pub async fn unsubscribe(&mut self, filter: &str) -> Packet {
        self.requests.unsubscribe(filter).await.expect("the client runs");
        self.answer(|packet| matches!(packet, Packet::UnsubAck(_))).await
    }

    /// Publishes, and waits until the broker has taken it if there is an answer to wait for.
    pub async fn publish(&mut self, topic: &str, qos: QoS, retain: bool, payload: &[u8]) {
        self.send(topic, qos, retain, payload).await;
        if qos != QoS::AtMostOnce {
            self.acknowledged(1).await;
        }
    }

    /// Publishes without waiting.
    pub async fn send(&self, topic: &str, qos: QoS, retain: bool, payload: &[u8]) {
        self.requests.publish(topic, qos, retain, payload.to_vec()).await.expect("the client runs");
    }

    /// Waits until `count` publishes have been taken.
    pub async fn acknowledged(&mut self, count: usize) {
        for _ in 0..count {
            self.answer(|packet| matches!(packet, Packet::PubAck(_) | Packet::PubComp(_))).await;
        }
    }

    /// Waits for an answer; earlier ones are passed over.
    pub async fn answer(&mut self, is_it: impl Fn(&Packet) -> bool) -> Packet {
        loop {
            match within(self.answers.recv()).await {
                Some(packet) if is_it(&packet) => return packet,
                Some(_) => {}
                None => panic!("closed: {:?}", (&mut self.polling).await),
            }
        }
    }

    /// The next message.
    pub async fn message(&mut self) -> Publish {
        match within(self.messages.recv()).await {
            Some(publish) => publish,
            None => panic!("closed: {:?}", (&mut self.polling).await),
        }
    }

    /// The next message that is not a repetition: a confirmation may have crossed with a take-over.
    pub async fn new_message(&mut self) -> Publish {
        loop {
            match self.message().await {
                message if message.dup => {}
                message => return message,
            }
        }
    }

    /// The payload of the next message, as text.
    pub async fn payload(&mut self) -> String {
        text(&self.message().await.payload)
    }

    /// The payloads of the next messages, up to and without `last`.
    pub async fn payloads_until(&mut self, last: &str) -> Vec<String> {
        let mut payloads = Vec::new();
        loop {
            match self.payload().await {
                payload if payload == last => return payloads,
                payload => payloads.push(payload),
            }
        }
    }

    /// Confirms a message, for clients that do it by hand.
    pub async fn confirm(&mut self, publish: &Publish) {
        self.requests.ack(publish).await.expect("the client runs");
    }

    /// Says goodbye, and waits until the broker has closed: it knows then that the client is gone.
    pub async fn disconnect(self) {
        self.requests.disconnect().await.expect("the client runs");
        let _ = self.closed().await;
    }

    /// Goes without a goodbye.
    pub async fn cut(self) {
        self.polling.abort();
        let _ = self.polling.await;
    }

    /// Waits until the broker has closed the connection.
    pub async fn closed(self) -> ConnectionError {
        within(self.polling).await.expect("the client's task ends by itself")
    }
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("tests send text")
}

/// Fails unless `actual` is `from..to` as text, in order.
pub fn assert_counts_up(actual: &[impl AsRef<str> + Debug], from: usize, to: usize) {
    let expected: Vec<_> = (from..to).map(|number| number.to_string()).collect();
    assert!(actual.iter().map(AsRef::as_ref).eq(expected.iter()), "{from}..{to}, but {actual:?}");
}
