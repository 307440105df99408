"""paho-mqtt against the broker on a port: MQTT 3.1, 3.1.1 and 5.0. Exits with 1 on the first failure."""

import queue
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

PORT = int(sys.argv[1])
# Nothing waits this long unless it has failed.
DEADLINE_SECONDS = 20


class Client:
    """A client in a thread of its own, whose events can be waited for."""

    def __init__(self, name, version, clean=True, expiry_seconds=0, will=None, keepalive=60):
        settings = {} if version == mqtt.MQTTv5 else {"clean_session": clean}
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, name, protocol=version, **settings)
        self.messages, self.events = queue.Queue(), queue.Queue()
        self.client.on_connect = lambda c, u, flags, reason, p: self.events.put((flags, reason, p))
        self.client.on_disconnect = lambda c, u, flags, reason, p: self.events.put(("closed", reason))
        self.client.on_subscribe = lambda c, u, mid, reasons, p: self.events.put(reasons)
        self.client.on_unsubscribe = lambda c, u, mid, reasons, p: self.events.put(reasons)
        self.client.on_message = lambda c, u, message: self.messages.put(message)
        if will:
            self.client.will_set(will, "gone", qos=1)
        properties = None
        if version == mqtt.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = expiry_seconds
            settings = {"clean_start": clean, "properties": properties}
        else:
            settings = {}
        self.client.connect("127.0.0.1", PORT, keepalive=keepalive, **settings)
        self.client.loop_start()
        flags, reason, self.connack = self.event()
        assert reason == 0, reason
        # 3.1 does not say.
        self.session_present = flags.session_present or (version == mqtt.MQTTv31 and not clean)

    def event(self):
        return self.events.get(timeout=DEADLINE_SECONDS)

    def message(self):
        return self.messages.get(timeout=DEADLINE_SECONDS)

    def subscribe(self, topic, qos=0, **settings):
        self.client.subscribe(topic, qos, **settings)
        return self.event()

    def publish(self, topic, payload, qos, **settings):
        info = self.client.publish(topic, payload, qos, **settings)
        info.wait_for_publish(DEADLINE_SECONDS)
        assert info.is_published()
        return info

    def disconnect(self):
        self.client.disconnect()
        assert self.event()[0] == "closed"
        self.client.loop_stop()

    def cut(self):
        self.client.loop_stop()
        self.client.socket().close()


def check_common(version, name):
    publisher = Client(f"{name}-publisher", version)
    subscriber = Client(f"{name}-subscriber", version)

    # Each QoS to publish and to subscribe with, live.
    for published in range(3):
        for subscribed in range(3):
            topic = f"{name}/qos/{published}/{subscribed}"
            subscriber.subscribe(topic, subscribed)
            for number in range(20):
                publisher.publish(topic, str(number), published)
            for number in range(20):
                message = subscriber.message()
                expected = (topic, str(number).encode(), min(published, subscribed))
                assert (message.topic, message.payload, message.qos) == expected, (expected, message)

    # While away.
    away = Client(f"{name}-away", version, clean=False, expiry_seconds=600)
    assert version == mqtt.MQTTv31 or not away.session_present
    for qos in (1, 2):
        away.subscribe(f"{name}/away/{qos}", qos)
    away.disconnect()
    for number in range(100):
        for qos in (1, 2):
            publisher.publish(f"{name}/away/{qos}", str(number), qos)
    away = Client(f"{name}-away", version, clean=False, expiry_seconds=600)
    assert away.session_present
    received = {1: [], 2: []}
    for _ in range(200):
        message = away.message()
        received[message.qos].append(int(message.payload))
    assert received == {1: list(range(100)), 2: list(range(100))}, received

    # Retained.
    publisher.publish(f"{name}/retained", "old", 1, retain=True)
    publisher.publish(f"{name}/retained", "new", 2, retain=True)
    subscriber.subscribe(f"{name}/retained", 2)
    message = subscriber.message()
    assert (message.payload, message.retain, message.qos) == (b"new", True, 2), message.payload
    publisher.publish(f"{name}/retained", "", 1, retain=True)
    assert subscriber.message().payload == b""

    # Wills.
    subscriber.subscribe(f"{name}/will/+", 1)
    Client(f"{name}-polite", version, will=f"{name}/will/polite").disconnect()
    Client(f"{name}-lost", version, will=f"{name}/will/lost").cut()
    message = subscriber.message()
    assert (message.topic, message.payload) == (f"{name}/will/lost", b"gone"), message.topic

    # Take-over.
    again = Client(f"{name}-away", version, clean=False, expiry_seconds=600)
    assert again.session_present
    closed, reason = away.event()
    assert closed == "closed" and (version != mqtt.MQTTv5 or reason == 0x8E), reason
    away.client.loop_stop()
    publisher.publish(f"{name}/away/1", "to the second", 1)
    assert again.message().payload == b"to the second"

    # Large, and shared.
    large = bytes(range(256)) * 8192
    subscriber.subscribe(f"{name}/large", 2)
    publisher.publish(f"{name}/large", large, 2)
    assert subscriber.message().payload == large
    for member in (subscriber, again):
        member.subscribe(f"$share/group/{name}/work", 1)
    for number in range(40):
        publisher.publish(f"{name}/work", str(number), 1)
    shared = [int(member.message().payload) for member in (subscriber, again) for _ in range(20)]
    assert sorted(shared) == list(range(40)), shared

    for client in (publisher, subscriber, again):
        client.disconnect()


def check_keep_alive():
    """A client that says nothing but PINGREQ stays for longer than one and a half times its keep alive."""
    quiet = Client("quiet", mqtt.MQTTv5, keepalive=1)
    quiet.subscribe("quiet", 1)
    try:
        raise AssertionError(f"closed: {quiet.events.get(timeout=3)}")
    except queue.Empty:
        pass
    quiet.publish("quiet", "still there", 1)
    assert quiet.message().payload == b"still there"
    quiet.disconnect()


def check_5():
    publisher = Client("five-publisher", mqtt.MQTTv5)
    subscriber = Client("five-subscriber", mqtt.MQTTv5)
    assert publisher.connack.TopicAliasMaximum > 0

    # No local, with a subscription identifier.
    properties = Properties(PacketTypes.SUBSCRIBE)
    properties.SubscriptionIdentifier = 7
    subscriber.client.subscribe("five/#", options=SubscribeOptions(qos=2, noLocal=True), properties=properties)
    subscriber.event()
    subscriber.publish("five/own", "own", 1)

    # Properties, behind an alias.
    sent = Properties(PacketTypes.PUBLISH)
    sent.TopicAlias = 1
    sent.PayloadFormatIndicator = 1
    sent.ContentType = "text/plain"
    sent.ResponseTopic = "answers"
    sent.CorrelationData = b"\x00\xff"
    sent.MessageExpiryInterval = 600
    sent.UserProperty = [("a", "1"), ("b", "2"), ("a", "3")]
    for topic in ("five/aliased", ""):
        publisher.publish(topic, "payload", 2, properties=sent)
        message = subscriber.message()
        assert (message.topic, message.payload) == ("five/aliased", b"payload"), message.topic
        got = message.properties
        assert got.SubscriptionIdentifier == [7], got
        assert got.UserProperty == sent.UserProperty, got
        assert (got.ContentType, got.ResponseTopic, got.CorrelationData) == ("text/plain", "answers", b"\x00\xff")

    # Reason codes.
    reasons = subscriber.subscribe("$share//bad")
    assert [reason.value for reason in reasons] == [0x8F], reasons
    subscriber.client.unsubscribe("never/subscribed")
    reasons = subscriber.event()
    assert [reason.value for reason in reasons] == [0x11], reasons
    publisher.disconnect()
    subscriber.disconnect()


for version, name in ((mqtt.MQTTv31, "v31"), (mqtt.MQTTv311, "v311"), (mqtt.MQTTv5, "v5")):
    check_common(version, f"paho-{name}")
check_keep_alive()
check_5()
print("paho: ok")
