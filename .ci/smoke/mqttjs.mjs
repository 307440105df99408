// MQTT.js against the broker at a URL: MQTT 3.1, 3.1.1 and 5.0. Exits with 1 on the first failure.

import assert from "node:assert/strict";
import { once } from "node:events";
import mqtt from "mqtt";

const url = process.argv[2];
const versions = [
    { name: "v31", options: { protocolVersion: 3, protocolId: "MQIsdp" } },
    { name: "v311", options: { protocolVersion: 4 } },
    { name: "v5", options: { protocolVersion: 5 } },
];

// A connected client, with the messages that it has got. (`queue` is a field of the library's own.)
async function connect(clientId, options) {
    const client = mqtt.connect(url, { clientId, reconnectPeriod: 0, ...options });
    // Before CONNACK, behind which a session's messages follow at once.
    client.waiting = [];
    client.on("message", (topic, payload, packet) => {
        client.waiting.push(packet);
        client.emit("queued");
    });
    client.next = async () => {
        while (client.waiting.length === 0) await once(client, "queued", { signal: AbortSignal.timeout(20_000) });
        return client.waiting.shift();
    };
    await once(client, "connect", { signal: AbortSignal.timeout(20_000) });
    return client;
}

async function checkCommon(name, options) {
    const id = (client) => `js-${name}-${client}`;
    const publisher = await connect(id("publisher"), options);
    const subscriber = await connect(id("subscriber"), options);

    for (const published of [0, 1, 2]) {
        for (const subscribed of [0, 1, 2]) {
            const topic = `js/${name}/qos/${published}/${subscribed}`;
            const granted = await subscriber.subscribeAsync(topic, { qos: subscribed });
            assert.equal(granted[0].qos, subscribed);
            for (let number = 0; number < 50; number++) {
                publisher.publish(topic, String(number), { qos: published });
            }
            for (let number = 0; number < 50; number++) {
                const packet = await subscriber.next();
                assert.equal(packet.payload.toString(), String(number), topic);
                assert.equal(packet.qos, Math.min(published, subscribed), topic);
            }
        }
    }

    const session = { ...options, clean: false };
    if (name === "v5") session.properties = { sessionExpiryInterval: 600 };
    let away = await connect(id("away"), session);
    await away.subscribeAsync(`js/${name}/away`, { qos: 2 });
    await away.endAsync();
    for (let number = 0; number < 100; number++) {
        await publisher.publishAsync(`js/${name}/away`, String(number), { qos: 1 + (number % 2) });
    }
    away = await connect(id("away"), session);
    const received = [];
    for (let number = 0; number < 100; number++) received.push(Number((await away.next()).payload));
    assert.deepEqual(received.filter((n) => n % 2), [...Array(50).keys()].map((n) => 2 * n + 1));
    assert.deepEqual(received.filter((n) => n % 2 === 0), [...Array(50).keys()].map((n) => 2 * n));

    await publisher.publishAsync(`js/${name}/retained`, "kept", { qos: 1, retain: true });
    await subscriber.subscribeAsync(`js/${name}/retained`, { qos: 1 });
    const retained = await subscriber.next();
    assert.deepEqual([retained.payload.toString(), retained.retain], ["kept", true]);
    await publisher.publishAsync(`js/${name}/retained`, "", { qos: 1, retain: true });
    assert.equal((await subscriber.next()).payload.length, 0);

    await subscriber.subscribeAsync(`js/${name}/will`, { qos: 1 });
    const will = { topic: `js/${name}/will`, payload: Buffer.from("gone"), qos: 1, retain: false };
    const lost = await connect(id("lost"), { ...options, will });
    lost.stream.destroy();
    assert.equal((await subscriber.next()).payload.toString(), "gone");

    const large = Buffer.alloc(2 * 1024 * 1024, "0123456789abcdef-");
    await subscriber.subscribeAsync(`js/${name}/large`, { qos: 2 });
    await publisher.publishAsync(`js/${name}/large`, large, { qos: 2 });
    assert.ok((await subscriber.next()).payload.equals(large));

    await subscriber.unsubscribeAsync(`js/${name}/large`);
    for (const client of [publisher, subscriber, away]) await client.endAsync();
}

async function check5() {
    const options = { protocolVersion: 5 };
    const publisher = await connect("js-five-publisher", options);
    const subscriber = await connect("js-five-subscriber", {
        ...options,
        properties: { receiveMaximum: 5, topicAliasMaximum: 10 },
    });
    await subscriber.subscribeAsync("js/five/#", { qos: 2, properties: { subscriptionIdentifier: 9 } });
    const properties = {
        payloadFormatIndicator: true,
        contentType: "text/plain",
        responseTopic: "answers",
        correlationData: Buffer.from([0, 255]),
        userProperties: { a: ["1", "2"], b: "3" },
    };
    for (let number = 0; number < 100; number++) {
        publisher.publish("js/five/properties", String(number), { qos: 2, properties });
    }
    for (let number = 0; number < 100; number++) {
        const packet = await subscriber.next();
        assert.equal(packet.payload.toString(), String(number));
        assert.equal(packet.properties.subscriptionIdentifier, 9);
        assert.equal(packet.properties.contentType, "text/plain");
        assert.equal(packet.properties.responseTopic, "answers");
        assert.deepEqual({ ...packet.properties.userProperties }, properties.userProperties);
    }
    for (const client of [publisher, subscriber]) await client.endAsync();
}

const deadline = setTimeout(() => {
    console.error("mqtt.js: nothing happens any more");
    process.exit(1);
}, 90_000);
for (const { name, options } of versions) await checkCommon(name, options);
await check5();
clearTimeout(deadline);
console.log("mqtt.js: ok");
