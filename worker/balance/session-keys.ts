/**
 * What a session cookie says, and which endpoint it means (ingress-nginx's sticky.lua, sticky_persistent.lua).
 *
 * `<key>|<hash of the backend>`: the second part tells main and canary apart. In `persistent` mode the key is the MD5 of
 * the backend's name and the endpoint, so a cookie that ingress-nginx minted means the same pod here.
 */

import type { AffinityPolicy } from "../../edge-config/features/affinity.ts";
import { createHash } from "../node-crypto.ts";
import type { BackendPool } from "./backend-pool.ts";
import type { Endpoint } from "./balancer.ts";
import { type HashRing, hashRing } from "./hash-ring.ts";

export interface SessionKeys {
  /** The endpoint of a cookie's value; `undefined`: it is another backend's, or its pod is gone. */
  readonly find: (value: string) => Endpoint | undefined;
  /** The value of a new cookie for a session that goes to `endpoint`; `find` of it gives `endpoint`. */
  readonly mint: (endpoint: Endpoint) => string;
}

export function sessionKeys(mode: AffinityPolicy["mode"], pool: BackendPool): SessionKeys {
  const { endpoints } = pool;
  switch (mode) {
    case "balanced":
      return balancedKeys(pool);
    case "persistent": {
      const suffix = `|${backendHash(pool)}`;
      return namedKeys(endpoints, ({ address }) => md5(nginxName(pool) + address) + suffix);
    }
    case "md5":
    case "sha1":
      return namedKeys(endpoints, ({ address }) => createHash(mode).update(address).digest("hex"));
    case "index":
      return namedKeys(endpoints, (endpoint) => String(endpoints.indexOf(endpoint)));
    default:
      return mode satisfies never;
  }
}

/** The backend's part of a cookie: md5(md5(name) + name). */
export function backendHash(pool: BackendPool): string {
  const name = nginxName(pool);
  return md5(md5(name) + name);
}

/** `namespace-service-port`, ingress-nginx's name of an upstream. */
function nginxName({ backend }: BackendPool): string {
  return `${backend.namespace}-${backend.service}-${backend.port}`;
}

function namedKeys(endpoints: readonly Endpoint[], name: (endpoint: Endpoint) => string): SessionKeys {
  const byName = new Map(endpoints.map((endpoint) => [name(endpoint), endpoint]));
  return { find: (value) => byName.get(value), mint: name };
}

/** The key is any text; the ring says whose it is. A new one is tried until it falls to the endpoint that was picked. */
function balancedKeys(pool: BackendPool): SessionKeys {
  const { endpoints } = pool;
  const suffix = `|${backendHash(pool)}`;
  let ring: HashRing | undefined;
  const owner = (key: string): Endpoint | undefined => {
    ring ??= hashRing(endpoints.map(({ address }) => address));
    const member = ring.find(key);
    return member === undefined ? undefined : endpoints[member];
  };
  return {
    find: (value) => (value.endsWith(suffix) ? owner(value.slice(0, -suffix.length)) : undefined),
    mint(endpoint) {
      // Each try hits with a chance of 1 in (number of endpoints); the bound only guards against a ring that lost one.
      for (let tries = 0; tries < 200 * endpoints.length; tries++) {
        const key = md5(`${Date.now()}.${Math.random()}`);
        if (owner(key) === endpoint) return key + suffix;
      }
      return md5(String(Math.random())) + suffix;
    },
  };
}

function md5(text: string): string {
  return createHash("md5").update(text).digest("hex");
}
