"use strict";
// A trace on the page: it is begun for a bounded time, its lines are shown as they come, and it is removed when it is over
// or somebody stops it. If the page is closed before, the node ends it by itself. After page.js, whose words it uses.

const TRACE_PERIOD_MS = 500;
const TRACE_LINES_MAX = 1000;

let trace = null;

// Who wants a message, or why it is not delivered.
function why({ reason, setting, reason_code, matched, dup, retain }) {
  const words = [reason, setting, dup && "again", retain && "to be kept"];
  if (matched) {
    const places = { local: "sessions here", cores: "other cores", persistent: "persistent sessions", groups: "shared subscriptions", denied: "not permitted" };
    const found = Object.entries(places).filter(([name]) => matched[name]).map(([name, place]) => `${matched[name]} ${place}`);
    words.push(found.length ? found.join(", ") : "nobody");
  }
  if (reason_code) words.push(`0x${reason_code.toString(16).padStart(2, "0")}`);
  return words.filter(Boolean).join(" · ");
}

function tell(text, bad = false) {
  $("trace-state").textContent = text;
  $("trace-state").className = bad ? "bad" : "";
}

function showTrace({ lines, missed, over }) {
  rows($("trace-lines"), lines.map((line) => [time(line.after_us), line.core, line.event, line.client_id, line.tenant,
    line.topic, line.qos, line.payload_bytes, why(line)]));
  const left = missed ? `, and ${missed} without room` : "";
  tell(`${over ? "over" : "following"}: ${lines.length} lines${left}`);
}

// Takes what is new until the trace is over or is to stop, and removes it: never while it is asked for.
async function follow(mine) {
  for (let goes = true; goes && !mine.stopped;) {
    const query = mine.cursor ? `?cursor=${mine.cursor}` : "";
    const page = await (await ask(`/api/v1/traces/${mine.id}/lines${query}`)).json();
    const room = TRACE_LINES_MAX - mine.lines.length;
    mine.lines.push(...page.items.slice(0, room));
    mine.overflow += Math.max(0, page.items.length - room);
    Object.assign(mine, { cursor: page.cursor, missed: page.missed + mine.overflow });
    showTrace(mine);
    goes = page.running || page.more;
    if (goes && !page.more) await new Promise((done) => setTimeout(done, TRACE_PERIOD_MS));
  }
  $("trace-stop").disabled = true;
  await ask(`/api/v1/traces/${mine.id}`, "DELETE");
  showTrace({ ...mine, over: true });
}

async function startTrace() {
  $("trace-start").disabled = true;
  showTrace({ lines: [], missed: 0 });
  try {
    if (trace) {
      trace.stopped = true;
      await trace.done.catch(() => {});
    }
    trace = null;
    const wanted = { seconds: Number($("trace-seconds").value), [$("trace-what").value]: $("trace-of").value };
    if ($("trace-tenant").value) wanted.tenant = $("trace-tenant").value;
    const { id } = await (await ask("/api/v1/traces", "POST", wanted)).json();
    trace = { id, cursor: null, stopped: false, missed: 0, overflow: 0, lines: [] };
  } finally {
    $("trace-start").disabled = false;
  }
  $("trace-stop").disabled = false;
  showTrace(trace);
  trace.done = follow(trace);
  await trace.done;
}

function stopTrace() {
  if (trace) trace.stopped = true;
}

const fails = (error) => tell(error.message, true);
$("trace").addEventListener("submit", (event) => {
  event.preventDefault();
  startTrace().catch(fails);
});
$("trace-stop").addEventListener("click", stopTrace);
