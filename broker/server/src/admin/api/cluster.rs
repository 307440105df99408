//! The cluster as this node sees it, in the shape that BifroMQ's tools know.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as From;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::State;
use super::super::gate;

/// The nodes of an `env`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Cluster {
    /// The cluster's name: `cluster.env`.
    env: String,
    nodes: Vec<Node>,
    /// The id of the node that answers.
    local: String,
}

/// A node.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Node {
    /// 64 bits in base64: those of the data directory, which a backup of it keeps; without one others with each start.
    id: String,
    /// Of its first listener.
    address: String,
    /// Of its first listener; 0 if that is a socket in a file.
    port: u16,
    pid: u32,
}

/// Lists the nodes of the cluster: this one, which stands alone.
#[utoipa::path(get, path = "/cluster", tag = "cluster",
    responses((status = OK, body = Cluster), (status = "default", body = gate::Body)))]
pub(super) async fn get(From(state): From<Arc<State>>) -> Json<Cluster> {
    let facts = &state.facts;
    let local = facts.node_id.clone();
    let (address, port) = facts.address.clone();
    let node = Node { id: local.clone(), address, port, pid: std::process::id() };
    Json(Cluster { env: facts.env.clone(), nodes: vec![node], local })
}
