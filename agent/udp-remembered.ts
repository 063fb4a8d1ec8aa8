/**
 * Which UDP destinations were translated by the rules that an earlier run has left.
 *
 * In: a listing of the kernel, as `nft` or `iptables-save` prints it. Out: destinations, for the sweep after a start: flows
 * to a Service that was deleted while no agent ran would stay otherwise.
 */

import { hostPort } from "../cluster/ip-address.ts";

/** `10.96.0.10:53`, or a node port. */
export function rememberedDestinations(listing: string | Uint8Array): readonly (string | number)[] {
  const text = typeof listing === "string" ? listing : Buffer.from(listing).toString("latin1");
  const found = new Set<string | number>();
  // nftables: elements of `service-ips` and `service-nodeports`; the latter have no address before the protocol. They are
  // the only ones with a number as their value. `nft -nn` prints a protocol as its number, and in tables of before every
  // element has a counter.
  for (const [, address, port] of text.matchAll(
    /[\s{](?:([0-9a-f.:]+) \. )?(?:udp|17) \. (\d{1,5})(?: counter(?: packets \d+ bytes \d+)?)?(?: comment "[^"]*")? : [0-9a-f]*:[0-9a-f]*[\s,]/g,
  )) {
    if (address === undefined) found.add(Number(port));
    else found.add(hostPort(address, Number(port)));
  }
  // iptables: `-d 10.96.0.10/32 -p udp … --dport 53`, and without `-d` for a node port.
  for (const [, options = ""] of text.matchAll(/^-A \S+ (.*-p udp .*--dport \d+.*)$/gm)) {
    const address = /-d (\S+)\/(?:32|128)\b/.exec(options)?.[1];
    const port = Number(/--dport (\d+)/.exec(options)?.[1]);
    found.add(address === undefined ? port : hostPort(address, port));
  }
  return [...found];
}
