#!/bin/sh
# Prints one order as JSON. Stands in for your order system: replace what is below by a call of it.
# Use: orders.sh NUMBER
set -eu

order=${1-}
case $order in
'' | *[!0-9]*)
    echo "an order number has digits only, such as 10482" >&2
    exit 2
    ;;
esac

file=$(dirname "$0")/../examples/orders/$order.json
if [ ! -f "$file" ]; then
    printf 'no order has the number %s; ask the customer to check it\n' "$order"
    exit 0
fi
cat "$file"
