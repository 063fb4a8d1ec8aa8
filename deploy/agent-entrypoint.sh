#!/bin/sh
# Starts `fairlead` with the iptables that the node uses: rules that one variant writes are invisible to the other, and
# the kernel would walk both. The kubelet leaves a chain of its own where it works; without one the newer variant is meant.
set -eu
variant=nft
if [ -n "${FAIRLEAD_IPTABLES_VARIANT:-}" ]; then
  variant=$FAIRLEAD_IPTABLES_VARIANT
elif ! iptables-nft-save -t mangle 2>/dev/null | grep -q '^:KUBE-KUBELET-CANARY\|^:KUBE-IPTABLES-HINT' &&
  grep -qs '^mangle$' /proc/net/ip_tables_names &&
  iptables-legacy-save -t mangle 2>/dev/null | grep -q '^:KUBE-KUBELET-CANARY\|^:KUBE-IPTABLES-HINT'; then
  variant=legacy
fi
export PATH="/opt/iptables-$variant:$PATH"
exec node /app/bin/fairlead.mjs "$@"
