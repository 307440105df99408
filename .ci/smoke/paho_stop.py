"""SIGTERM to the broker while clients are connected: paho_stop.py PORT PID. Clients of 5.0 are told 0x8B."""

import os
import queue
import signal
import sys

import paho.mqtt.client as mqtt

PORT, PID = int(sys.argv[1]), int(sys.argv[2])
CLIENTS = 50
closed = queue.Queue()
connected = queue.Queue()

clients = []
for number in range(CLIENTS):
    version = mqtt.MQTTv5 if number % 2 else mqtt.MQTTv311
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, f"stop-{number}", protocol=version)
    client.on_connect = lambda client, *_: connected.put(client)
    client.on_disconnect = lambda client, _, flags, reason, __: closed.put((client.protocol, reason))
    client.connect("127.0.0.1", PORT)
    client.loop_start()
    clients.append(client)
for _ in clients:
    connected.get(timeout=20)
os.kill(PID, signal.SIGTERM)
for _ in clients:
    version, reason = closed.get(timeout=20)
    assert version != mqtt.MQTTv5 or reason == 0x8B, reason
# The clients' threads, which would connect again, end with this process.
print("stop: ok")
