/**
 * What a proxy in front of the edge says about its client, where it is believed (nginx's ngx_http_realip_module).
 *
 * In: the policy; then a request with the address of whoever connected. Out: the client's address, and scheme, host
 * and port as the client used them. Whoever is not a believed proxy is the client himself, whatever he writes.
 */

import type { ForwardingPolicy } from "../edge-config/features/forwarding.ts";
import { addressSet } from "./address-set.ts";
import type { RequestTarget } from "./request-target.ts";

export interface Forwarding {
  readonly policy: ForwardingPolicy;
  /** Of the addresses in the header, the last one that is no believed proxy (real_ip_recursive). */
  readonly client: (peer: string, headers: Headers) => string;
  readonly target: (target: RequestTarget, peer: string, headers: Headers) => RequestTarget;
}

const ADDRESS = /^[0-9A-Fa-f:.]+$/;
const AUTHORITY = /^(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?)(?::[0-9]{1,5})?$/;

export function createForwarding(policy: ForwardingPolicy): Forwarding {
  const trusted = policy.trusted.length === 0 ? undefined : addressSet(policy.trusted);
  return {
    policy,
    client(peer, headers) {
      if (trusted?.has(peer) !== true) return peer;
      let client = peer;
      const addresses = headers.get(policy.addressHeader)?.split(",") ?? [];
      for (const one of addresses.reverse()) {
        const address = one.trim();
        if (!ADDRESS.test(address)) return client;
        client = address;
        if (!trusted.has(address)) return client;
      }
      return client;
    },
    target(target, peer, headers) {
      if (!policy.trustsOthers || trusted?.has(peer) !== true) return target;
      const proto = first(headers, "x-forwarded-proto");
      const authority = first(headers, "x-forwarded-host");
      const port = first(headers, "x-forwarded-port");
      return {
        ...target,
        ...(proto === "http" || proto === "https" ? { scheme: proto } : {}),
        ...(authority !== undefined && AUTHORITY.test(authority)
          ? {
              authority,
              host: authority
                .toLowerCase()
                .replace(/:[0-9]+$/, "")
                .replace(/\.$/, ""),
            }
          : {}),
        ...(port !== undefined && /^[0-9]{1,5}$/.test(port) ? { port } : {}),
      };
    },
  };
}

function first(headers: Headers, name: string): string | undefined {
  return headers.get(name)?.split(",", 1)[0]?.trim();
}
