#!/usr/bin/env bash
# A job, its response, feedback on it and the gradient of the prompt, by HTTP alone: RabbitMQ's management API.
# It needs bash, curl and jq. This API is for trying things out: it asks for an answer again and again.
set -euo pipefail

amqp=${BACKTALK_AMQP_URL:-amqp://guest:guest@127.0.0.1:5672/}
namespace=${BACKTALK_NAMESPACE:-backtalk}
seconds=${SAMPLE_SECONDS:-60}

# the API is on the broker's host, with the same user, unless BACKTALK_MANAGEMENT_URL says otherwise
place=${amqp#*://} place=${place%%\?*} login=guest:guest vhost=%2F
[[ $place == */?* ]] && vhost=${place#*/}
place=${place%%/*}
[[ $place == *@* ]] && login=${place%@*}
host=${place##*@}
api=${BACKTALK_MANAGEMENT_URL:-http://$login@${host%:*}:15672}
replies=$namespace.replies.curl-$$-$RANDOM

fail() {
    echo "$1" >&2
    exit 1
}

# call METHOD PATH: what is read goes along, what is answered is written; the password stays off the command line
call() {
    curl --silent --show-error --fail --max-time 20 --request "$1" --data-binary @- \
        --header "Content-Type: application/json" --config <(echo "url = \"${api%/}/api/$2\"")
}

# ask ROLE: reads a request, writes its answer
ask() {
    local answer status end=$((SECONDS + seconds))
    # a body of UTF-8 travels as it is, as a string in JSON
    jq --arg queue "$namespace.$1" --arg replies "$replies" --arg id "$replies-$1" '{
        routing_key: $queue, payload: tojson, payload_encoding: "string",
        properties: {delivery_mode: 2, message_id: $id, reply_to: $replies}
    }' | call POST "exchanges/$vhost/amq.default/publish" | jq --exit-status .routed >/dev/null ||
        fail "not published: is there a queue $namespace.$1? The workers make their queues when they start"
    until
        # with "auto" the API would give text as it is, and base64 for the rest
        answer=$(echo '{"count": 1, "ackmode": "ack_requeue_false", "encoding": "base64"}' |
            call POST "queues/$vhost/$replies/get" | jq '.[] | .payload | @base64d | fromjson') ||
            fail "the management API gives no messages"
        [[ -n $answer ]]
    do
        ((SECONDS < end)) || fail "no answer of a $1 worker within $seconds s"
        sleep 0.2
    done
    status=$(jq --raw-output .status <<<"$answer")
    [[ $status == completed ]] || fail "$1 worker: $status: $(jq --compact-output '.error // .failures' <<<"$answer")"
    echo "$answer"
}

# exclusive queues are closed to this API, so the queue for answers is one that goes by itself when nobody asks
echo '{"durable": true, "arguments": {"x-expires": 600000}}' | call PUT "queues/$vhost/$replies" ||
    fail "the management API is not there: set BACKTALK_MANAGEMENT_URL=http://user:password@host:15672"
trap 'call DELETE "queues/$vhost/$replies" </dev/null || true' EXIT

result=$(ask forward <"$(dirname "$0")/job.json")
echo "response: $(jq --raw-output '.completions[0].choices[0].message.content' <<<"$result")"

gradients=$(jq '{graph, feedback: [{variable: .output, text: "Use only capital letters."}]}' <<<"$result" | ask backward)
jq --raw-output '.gradients["prompt-1"][] | "gradient: \(.text)"' <<<"$gradients"
