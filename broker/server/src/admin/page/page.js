"use strict";
// The page of a node: it asks /status, /metrics and /api/v1 like everybody else, every two seconds, and draws what
// has come. It keeps two minutes and forgets them when it is closed.

const PERIOD_MS = 2000;
const POINTS_MAX = 60;
const ROWS_MAX = 50;

const $ = (id) => document.getElementById(id);
const points = { in: [], out: [], connections: [] };
let last = null;
let searches = 0;
let token = sessionStorage.getItem("token") || "";

async function ask(path, method = "GET", body = undefined) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  if (body) headers["Content-Type"] = "application/json";
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: "no-store" });
  $("login").hidden = response.status !== 401;
  if (response.status === 401) throw new Error("a token is needed");
  if (!response.ok) throw new Error((await response.json().catch(() => null))?.error?.message || `${path}: ${response.status}`);
  return response;
}

// Samples of Prometheus' text format: name, labels, value.
function parse(text) {
  const samples = [];
  for (const line of text.split("\n")) {
    const found = line.match(/^([a-z_]+)(?:\{(.*)\})? (\S+)$/);
    if (!found) continue;
    const labels = {};
    for (const [, name, value] of (found[2] || "").matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)) {
      labels[name] = value.replace(/\\(.)/g, (_, letter) => (letter === "n" ? "\n" : letter));
    }
    samples.push({ name: found[1], labels, value: Number(found[3]) });
  }
  return samples;
}

function sum(samples, name, labels = {}) {
  let total = 0;
  for (const sample of samples) {
    if (sample.name === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value)) {
      total += sample.value;
    }
  }
  return total;
}

function short(number, suffix = "") {
  const steps = ["", "k", "M", "G", "T"];
  let step = 0;
  while (Math.abs(number) >= 1000 && step < steps.length - 1) { number /= 1000; step += 1; }
  return number.toFixed(step === 0 && Number.isInteger(number) ? 0 : 1) + (steps[step] || suffix ? `\u202f${steps[step]}${suffix}` : "");
}

// Microseconds.
function time(us) {
  return us < 1000 ? `${us}\u202fµs` : `${(us / 1000).toFixed(1)}\u202fms`;
}

// Text only: client ids are anybody's.
function rows(body, lines) {
  body.replaceChildren(...lines.map((cells) => {
    const row = document.createElement("tr");
    for (const cell of cells) {
      const data = document.createElement("td");
      data.textContent = cell ?? "–";
      data.title = data.textContent;
      data.className = "text";
      row.append(data);
    }
    return row;
  }));
}

function chart(svg, lines) {
  const most = Math.max(1, ...lines.flatMap(([, values]) => values));
  svg.replaceChildren(...lines.map(([name, values]) => {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    const place = (value, at) => `${600 - (values.length - 1 - at) * (600 / (POINTS_MAX - 1))},${155 - (value / most) * 145}`;
    line.setAttribute("points", values.map(place).join(" "));
    line.setAttribute("class", name);
    line.setAttribute("style", "background: none");
    return line;
  }));
}

function keep(values, value) {
  values.push(value);
  if (values.length > POINTS_MAX) values.shift();
}

function show(status, samples, seconds) {
  const rate = (name, labels) => last ? Math.max(0, (sum(samples, name, labels) - sum(last.samples, name, labels)) / seconds) : 0;
  $("node").textContent = `${status.env} · ${status.listeners.join(" ")} · version ${status.version} · up ${Math.floor(status.uptime_seconds / 60)} min`;
  $("state").textContent = status.stopping ? "stopping" : "running";
  $("state").className = status.stopping ? "bad" : "";
  const [incoming, outgoing] = [rate("hermod_messages_total", { direction: "in" }), rate("hermod_messages_total", { direction: "out" })];
  $("connections").textContent = short(status.connections);
  $("in").textContent = short(incoming);
  $("out").textContent = short(outgoing);
  $("bytes").textContent = short(rate("hermod_bytes_total"), "B");
  $("dropped").textContent = short(rate("hermod_messages_dropped_total"));
  $("queued").textContent = short(sum(samples, "hermod_queue_bytes"), "B");
  $("memory").textContent = short(status.resident_bytes || 0, "B");
  $("cpu").textContent = rate("hermod_cpu_seconds_total").toFixed(2);
  keep(points.in, incoming);
  keep(points.out, outgoing);
  keep(points.connections, status.connections);
  chart($("messages-chart"), [["in", points.in], ["out", points.out]]);
  chart($("connections-chart"), [["in", points.connections]]);
  rows($("cores"), status.cores.map((core) => {
    const label = { core: String(core.id) };
    const busy = rate("hermod_turn_seconds_sum", label) * 100;
    return [core.id, core.cpu, core.connections, core.sessions, short(rate("hermod_messages_total", { ...label, direction: "out" })),
      `${busy.toFixed(0)} %`, time(core.turn_us_p99), time(core.turn_us_max)];
  }));
  const whys = new Map();
  for (const { name, labels, value } of samples) {
    const what = name === "hermod_messages_dropped_total" ? `not delivered: ${labels.reason}`
      : name === "hermod_limited_total" ? `setting: ${labels.setting}`
      : name === "hermod_listener_limited_total" ? `listener ${labels.listener}: ${labels.setting}` : null;
    if (what && value > 0) whys.set(what, [name, { ...labels, core: undefined }, (whys.get(what)?.[2] || 0) + value]);
  }
  const reasons = [...whys].sort((a, b) => b[1][2] - a[1][2]);
  rows($("reasons"), reasons.length ? reasons.map(([what, [name, labels, count]]) => {
    const known = Object.fromEntries(Object.entries(labels).filter(([, value]) => value !== undefined));
    return [what, short(count), short(rate(name, known))];
  }) : [["nothing was", "", ""]]);
}

async function tick() {
  try {
    const [status, text] = [await (await ask("/status")).json(), await (await ask("/metrics")).text()];
    const [samples, at] = [parse(text), performance.now()];
    show(status, samples, last ? (at - last.at) / 1000 : 1);
    last = { samples, at };
    const tenants = (await (await ask(`/api/v1/tenants?limit=${ROWS_MAX}`)).json()).items;
    rows($("tenants"), tenants.map((tenant) => [tenant.name, tenant.clients, tenant.sessions_away, tenant.subscriptions,
      tenant.retained_messages, `${short(tenant.queued_messages)} (${short(tenant.queued_bytes, "B")})`,
      tenant.messages_received.map((count) => short(count)).join(" · "), tenant.messages_sent.map((count) => short(count)).join(" · "), short(tenant.messages_dropped)]));
    await find();
  } catch (error) {
    $("state").textContent = error.message;
    $("state").className = "bad";
  }
}

async function find() {
  const query = new URLSearchParams({ limit: ROWS_MAX });
  for (const [name, id] of [["search", "client"], ["tenant", "tenant"], ["state", "presence"]]) {
    if ($(id).value) query.set(name, $(id).value);
  }
  const number = (searches += 1);
  const page = await (await ask(`/api/v1/sessions?${query}`)).json();
  if (number !== searches) return; // somebody has typed on
  rows($("clients"), page.items.map((item) => [item.tenant, item.client, item.user || "–", item.state, item.protocol,
    item.peer, item.core, item.subscriptions, `${short(item.queued_messages)} (${short(item.queued_bytes, "B")})`]));
  $("more").textContent = page.cursor ? "… and more" : "";
}

$("search").addEventListener("input", () => find().catch(() => {}));
$("search").addEventListener("submit", (event) => event.preventDefault());
$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value;
  sessionStorage.setItem("token", token);
  tick();
});
(async () => {
  for (;;) {
    await tick();
    await new Promise((done) => setTimeout(done, PERIOD_MS));
  }
})();
