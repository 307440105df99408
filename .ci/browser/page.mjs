// What somebody sees who opens the page: page.mjs URL URL_WITH_TOKEN PICTURE.
import assert from "node:assert/strict";
import puppeteer from "puppeteer-core";

const [open, closed, picture] = process.argv.slice(2);
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu"],
});
const text = (page, selector) => page.$eval(selector, (element) => element.textContent);
const rows = (page, selector) => page.$$eval(`${selector} tr`, (found) => found.map((row) => [...row.cells].map((cell) => cell.textContent)));
// Waits until the page says something; it asks every two seconds.
const until = (page, says, ...what) => page.waitForFunction(says, { timeout: 30_000 }, ...what);
const clients = (page, count) => until(page, (expected) => document.querySelectorAll("#clients tr").length === expected, count);

const wrong = [];
const watch = (page) => {
  page.on("pageerror", (error) => wrong.push(`error: ${error}`));
  page.on("console", (message) => { if (message.type() === "error") wrong.push(`console: ${message.text()}`); });
  page.on("request", (request) => { if (!/^(http:\/\/127\.0\.0\.1:|data:)/.test(request.url())) wrong.push(`asks ${request.url()}`); });
};

try {
  const page = await browser.newPage();
  watch(page);
  await page.setViewport({ width: 1400, height: 1000 });
  await page.goto(open);
  await until(page, () => document.querySelector("#state").textContent === "running");
  await clients(page, 4);
  assert.equal(await text(page, "#connections"), "4");
  // 50 messages a second to three subscribers: a rate stands there from the second look on.
  await until(page, () => Number(document.querySelector("#out").textContent) > 30);
  await until(page, () => Number(document.querySelector("#in").textContent) > 10);
  await until(page, () => document.querySelector("#messages-chart .out").getAttribute("points").split(" ").length >= 4);
  assert.ok((await rows(page, "#cores")).length >= 1);
  assert.equal((await rows(page, "#tenants"))[0][0], "default");
  const names = (await rows(page, "#clients")).map((row) => row[1]).sort();
  assert.deepEqual(names, ["<b onclick=x>sensor-3</b>", "flow", "sensor-1", "sensor-2"]);
  assert.equal(await page.$("#clients b"), null, "a client id is text");

  await page.type("#client", "sensor");
  await clients(page, 3);
  await page.type("#client", "-2");
  await clients(page, 1);
  assert.equal((await rows(page, "#clients"))[0][7], "2", "subscriptions");
  await page.$eval("#client", (field) => { field.value = ""; });
  await page.select("#presence", "away");
  await clients(page, 0);
  await page.select("#presence", "");
  await clients(page, 4);

  // Why sensor-2 gets something: the messages' way to it, from a publisher that is another client.
  const lines = () => rows(page, "#trace-lines");
  const seen = (event, client) => until(page, (event, client) => [...document.querySelectorAll("#trace-lines tr")].some(
    (row) => row.cells[2].textContent === event && row.cells[3].textContent === client), event, client);
  await page.type("#trace-of", "sensor-2");
  await page.click("#trace-start");
  await seen("sent", "sensor-2");
  assert.ok((await lines()).every((row) => row[3] === "sensor-2" && row[5] === "flow/a"), "of this client only");
  await page.click("#trace-stop");
  await until(page, () => document.querySelector("#trace-state").textContent.startsWith("over: "));
  const stopped = (await lines()).length;
  // Where it is published, who wants it, and to whom it goes.
  await page.select("#trace-what", "topic");
  await page.$eval("#trace-of", (field) => { field.value = "flow/+"; });
  await page.$eval("#trace-seconds", (field) => { field.value = "1"; });
  assert.equal((await lines()).length, stopped, "nothing comes behind the end");
  await page.click("#trace-start");
  await seen("received", "flow");
  await seen("sent", "<b onclick=x>sensor-3</b>");
  assert.equal(await page.$("#trace-lines b"), null, "a client id is text");
  await until(page, () => document.querySelector("#trace-state").textContent.startsWith("over: "));
  await page.screenshot({ path: picture, fullPage: true });
  const left = await page.evaluate(async () => (await (await fetch("/api/v1/traces")).json()).items);
  assert.deepEqual(left, [], "a trace that is over is removed");
  await page.select("#trace-what", "address");
  await page.$eval("#trace-of", (field) => { field.value = "127.0.0.0/8"; });
  await page.click("#trace-start");
  await seen("received", "flow");
  await page.click("#trace-stop");
  await until(page, () => document.querySelector("#trace-state").textContent.startsWith("over: "));
  assert.deepEqual(wrong, []);
  await page.$eval("#trace-of", (field) => { field.value = "nowhere"; });
  await page.click("#trace-start");
  await until(page, () => document.querySelector("#trace-state").textContent.startsWith("address: "));
  assert.ok(wrong.length === 1 && wrong[0].includes("400"), `${wrong}`);

  const other = await browser.newPage();
  await other.goto(closed);
  await until(other, () => !document.querySelector("#login").hidden);
  assert.equal(await text(other, "#state"), "a token is needed");
  await other.type("#token", "a-token-for-the-browser");
  await other.keyboard.press("Enter");
  await until(other, () => document.querySelector("#state").textContent === "running");
  assert.equal(await other.$eval("#login", (form) => form.hidden), true);
  console.log("browser: ok");
} finally {
  await browser.close();
}
