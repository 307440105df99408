//! Hot path. What one client may do, bound to its names and to the access list in force.

use std::sync::Arc;

use super::list::{AccessList, Patterns};
use super::pattern::Names;
use super::rules::{Action, Rules};
use super::{Identity, Permissions};

/// What one client may do. Shared by its connection and its session; replaced when the list changes, by
/// whoever next asks ([`Access::refresh`]).
#[derive(Debug)]
pub struct Grant {
    user: Arc<str>,
    permissions: Permissions,
    /// The user may be taken out of a list that the host keeps.
    listed: bool,
    /// The list in force when it was made, by [`Access`]'s numbering.
    generation: u32,
    scope: Scope,
}

#[derive(Debug)]
enum Scope {
    /// Everything.
    All,
    /// What these say.
    Rules {
        own: Option<Arc<Rules>>,
        patterns: Option<Arc<Patterns>>,
        /// To be put into patterns; empty if there are none.
        client: Box<str>,
    },
}

impl Grant {
    /// Who the client is.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Whether the user may be taken out of a list that the host keeps.
    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// Whether both allow the same.
    pub fn is_same(&self, other: &Grant) -> bool {
        self.generation == other.generation
            && self.user == other.user
            && self.permissions == other.permissions
            && self.listed == other.listed
    }

    /// Whether the client may publish to a topic.
    pub fn may_publish(&self, topic: &str) -> bool {
        self.allows(Action::Publish, topic)
    }

    /// Whether the client may be sent what is published on a topic.
    pub fn may_receive(&self, topic: &str) -> bool {
        self.allows(Action::Subscribe, topic)
    }

    /// Whether the client may subscribe to `filter` (without its share name). Under the node's list always: each
    /// message is judged when it comes. Under rules of its own, if they leave anything to come.
    pub fn may_subscribe(&self, filter: &str) -> bool {
        match &self.permissions {
            Permissions::All | Permissions::Listed => true,
            Permissions::Own(rules) => rules.reach(filter),
        }
    }

    fn allows(&self, action: Action, topic: &str) -> bool {
        match &self.scope {
            Scope::All => true,
            Scope::Rules { own, patterns, client } => own
                .as_ref()
                .and_then(|rules| rules.decide(action, topic))
                .or_else(|| {
                    let names = Names { user: &self.user, client };
                    patterns.as_ref()?.decide(names, action, topic)
                })
                .unwrap_or(false),
        }
    }
}

/// The access list in force on one core.
pub struct Access {
    list: Option<Arc<AccessList>>,
    generation: u32,
    /// Some client may not do everything. False costs deliveries nothing.
    restricted: bool,
    /// For all anonymous clients, as far as their ids do not matter.
    anonymous: Arc<Grant>,
}

impl Access {
    /// No list: everything is allowed.
    pub fn new() -> Access {
        let (user, permissions) = (Arc::from(""), Permissions::Listed);
        let anonymous = Grant { user, permissions, listed: false, generation: 0, scope: Scope::All };
        Access { list: None, generation: 0, restricted: false, anonymous: Arc::new(anonymous) }
    }

    /// Puts another list into force, at once and for all.
    pub fn replace(&mut self, list: Option<Arc<AccessList>>) {
        self.restricted |= list.is_some();
        self.list = list;
        self.invalidate();
    }

    /// What was decided before is to be decided again.
    pub fn invalidate(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        self.anonymous = Arc::new(self.make(Arc::from(""), Permissions::Listed, ""));
    }

    /// By which decisions that were kept are known to be old.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether deliveries have to be judged at all.
    pub fn is_restricted(&self) -> bool {
        self.restricted
    }

    /// What a client may do that was let in as `identity`, under this id.
    pub fn grant(&mut self, identity: &Identity, client: &str) -> Arc<Grant> {
        self.restricted |= matches!(identity.permissions, Permissions::Own(_));
        self.bind((&identity.user, &identity.permissions, identity.listed), client)
    }

    /// Makes a grant anew if the list has changed since. True if it had to be.
    pub fn refresh(&self, grant: &mut Arc<Grant>, client: impl FnOnce() -> Box<str>) -> bool {
        let old = grant.generation != self.generation;
        if old {
            *grant = self.bind((&grant.user, &grant.permissions, grant.listed), &client());
        }
        old
    }

    fn bind(&self, (user, permissions, listed): (&Arc<str>, &Permissions, bool), client: &str) -> Arc<Grant> {
        let by_client = self.list.as_ref().is_some_and(|list| list.has_patterns());
        if user.is_empty() && *permissions == Permissions::Listed && !by_client {
            return Arc::clone(&self.anonymous);
        }
        Arc::new(Grant { listed, ..self.make(Arc::clone(user), permissions.clone(), client) })
    }

    fn make(&self, user: Arc<str>, permissions: Permissions, client: &str) -> Grant {
        let scope = match (&permissions, &self.list) {
            (Permissions::All, _) | (Permissions::Listed, None) => Scope::All,
            (Permissions::Own(rules), _) => {
                Scope::Rules { own: Some(Arc::clone(rules)), patterns: None, client: "".into() }
            }
            (Permissions::Listed, Some(list)) => {
                let patterns = list.patterns_for(Names { user: &user, client }).cloned();
                let client = if patterns.is_some() { client } else { "" };
                Scope::Rules { own: list.section(&user).cloned(), patterns, client: client.into() }
            }
        };
        Grant { user, permissions, listed: false, generation: self.generation, scope }
    }
}
