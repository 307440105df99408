#!/usr/bin/env bash
# mosquitto_pub and mosquitto_sub against the broker on PORT: mosquitto.sh PORT WORK_DIRECTORY.
set -euo pipefail
port="$1"
work="$2/mosquitto"
rm -rf "$work"
mkdir -p "$work"

fail() {
    echo "mosquitto: FAILED: $1"
    for file in "$work"/*.out; do sed "s|^|${file##*/}: |" "$file"; done
    exit 1
}

pub() { timeout 30 mosquitto_pub -h 127.0.0.1 -p "$port" "$@" || fail "mosquitto_pub $*"; }

# sub NAME ARGUMENTS...: subscribes in the background, and returns when the broker has said that it stands.
# `pids[NAME]` is its process, `$work/NAME.out` its output.
declare -A pids
sub() {
    local name="$1"
    shift
    timeout 60 stdbuf -oL mosquitto_sub -h 127.0.0.1 -p "$port" -d -F 'message %t %q %r %p' "$@" \
        >"$work/$name.out" 2>&1 &
    pids[$name]=$!
    timeout 20 sh -c 'until grep -qs "^Subscribed" "$0"; do sleep 0.02; done' "$work/$name.out" ||
        fail "$name is not subscribed"
}

# receive NAME: waits until it has all it waited for; `messages` is what it got, each `topic QoS retain payload`.
receive() {
    wait "${pids[$1]}" || fail "$1 ends with $?"
    messages="$(sed -n 's/^message //p' "$work/$1.out")"
}

payloads() { cut -d ' ' -f 4 <<<"$messages"; }

expect() { if [ "$2" != "$3" ]; then fail "$1: expected '$2', got '$3'"; fi; }

for version in mqttv31 mqttv311 mqttv5; do
    v="smoke/$version"

    # Each QoS to publish and to subscribe with; the lower one counts.
    for q in 0 1 2; do
        sub "qos-$q" -V "$version" -t "$v/qos/#" -q "$q" -C 3
    done
    for q in 0 1 2; do pub -V "$version" -t "$v/qos/$q" -q "$q" -m "payload $q"; done
    for s in 0 1 2; do
        expected="$(for q in 0 1 2; do echo "$v/qos/$q $((q < s ? q : s)) 0 payload $q"; done)"
        receive "qos-$s"
        expect "QoS $s" "$expected" "$(sort <<<"$messages")"
    done

    # A thousand messages in order.
    sub order -V "$version" -t "$v/order" -q 1 -C 1000
    seq 1000 | pub -V "$version" -t "$v/order" -q 1 -l
    receive order
    expect "order" "$(seq 1000)" "$(payloads)"

    # A persistent session keeps what comes while its client is away.
    persistent=(-V "$version" -i "away-$version" -c -t "$v/away" -q 2)
    if [ "$version" = mqttv5 ]; then persistent+=(-x 600); fi
    sub away "${persistent[@]}" -C 1
    pub -V "$version" -t "$v/away" -q 2 -m there
    receive away
    expect "there" "$v/away 2 0 there" "$messages"
    for n in 1 2 3; do pub -V "$version" -t "$v/away" -q 2 -m "$n"; done
    timeout 30 stdbuf -oL mosquitto_sub -h 127.0.0.1 -p "$port" "${persistent[@]}" -C 3 >"$work/back.out" ||
        fail "does not get what it missed"
    expect "away" "$(printf '1\n2\n3')" "$(cat "$work/back.out")"

    # Retained: the last one, until it is removed.
    pub -V "$version" -t "$v/retained" -q 1 -r -m old
    pub -V "$version" -t "$v/retained" -q 1 -r -m new
    sub retained -V "$version" -t "$v/+" -q 1 -C 1
    receive retained
    expect "retained" "$v/retained 1 1 new" "$messages"
    pub -V "$version" -t "$v/retained" -q 1 -r -n
    sub removed -V "$version" -t "$v/retained" -q 1 -C 1
    pub -V "$version" -t "$v/retained" -q 1 -m live
    receive removed
    expect "removed" "$v/retained 1 0 live" "$messages"

    # The will of a client that is killed.
    sub will -V "$version" -t "$v/will" -q 1 -C 1
    mosquitto_sub -h 127.0.0.1 -p "$port" -V "$version" -d -t "$v/unused" \
        --will-topic "$v/will" --will-qos 1 --will-payload gone > >(cat >"$work/victim.out") 2>&1 &
    victim=$!
    sub other -V "$version" -t "$v/other" -q 1 -C 1
    pub -V "$version" -t "$v/other" -q 1 -m here
    receive other
    kill -KILL "$victim" 2>/dev/null || fail "the victim is gone already"
    wait "$victim" 2>/dev/null || true
    receive will
    expect "will" "$v/will 1 0 gone" "$messages"

    # A shared subscription: two members, each message once.
    for member in a b; do sub "share-$member" -V "$version" -t "\$share/g/$v/work" -q 1 -C 10; done
    seq -w 20 | pub -V "$version" -t "$v/work" -q 1 -l
    receive share-a
    shared="$(payloads)"
    receive share-b
    expect "shared" "$(seq -w 20)" "$({ echo "$shared" && payloads; } | sort)"

    # A megabyte, unchanged.
    head -c 1500000 /dev/urandom >"$work/large"
    timeout 30 mosquitto_sub -h 127.0.0.1 -p "$port" -V "$version" -t "$v/large" -q 2 -C 1 -N \
        >"$work/large.received" &
    large=$!
    # Retained, so that it does not matter who is first; but not both in the same moment.
    sleep 0.5
    pub -V "$version" -t "$v/large" -q 2 -r -f "$work/large"
    wait "$large" || fail "large payload"
    cmp "$work/large" "$work/large.received" || fail "large payload"
    pub -V "$version" -t "$v/large" -r -n
done

# What only 5.0 has: properties.
timeout 30 stdbuf -oL mosquitto_sub -h 127.0.0.1 -p "$port" -V mqttv5 -t smoke/properties -q 1 -C 1 \
    -F '%C %R %D %P %p' >"$work/properties.out" &
properties=$!
sleep 0.5
pub -V mqttv5 -t smoke/properties -q 1 -r -m payload -D publish content-type text/plain \
    -D publish response-topic answer/here -D publish correlation-data 42 -D publish user-property key value \
    -D publish message-expiry-interval 600
wait "$properties" || fail "properties"
expect "properties" "text/plain answer/here 42 key:value payload" "$(cat "$work/properties.out")"
# What mosquitto's users watch a broker by.
# shellcheck disable=SC2016
running="$(timeout 30 mosquitto_sub -h 127.0.0.1 -p "$port" -t '$SYS/broker/version' -C 1)" || fail '$SYS/broker/version'
case "$running" in "hermod version "*) ;; *) fail "\$SYS/broker/version: $running" ;; esac
echo "mosquitto: ok"
