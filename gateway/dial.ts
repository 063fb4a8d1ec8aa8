/** What it takes to connect to a pod: addresses, time, and for TLS the names and certificates. */

import { type ConnectionOptions, checkServerIdentity } from "node:tls";
import type { Route } from "./authorize.ts";

/** A Secret that `proxy-ssl-secret` names: PEM texts. */
export interface TlsSecret {
  /** `ca.crt`: who may have signed the pod's certificate. Absent: the public authorities. */
  readonly ca?: string;
  /** `tls.crt` and `tls.key`: what the gateway shows to the pod. */
  readonly cert?: string;
  readonly key?: string;
}

export interface DialSettings {
  readonly connectTimeoutMs: number;
  /** By `namespace/name`. */
  readonly tlsSecret: (name: string) => TlsSecret | undefined;
}

/** The pod did not get the request. */
export class ConnectError extends Error {
  override readonly name = "ConnectError";
}

/** Throws a `ConnectError` when the token names a Secret that this gateway does not have. */
export function tlsOptions({ target }: Route, settings: DialSettings): ConnectionOptions {
  const secret = target.tlsSecret === undefined ? {} : settings.tlsSecret(target.tlsSecret);
  if (secret === undefined) throw new ConnectError(`the Secret ${target.tlsSecret} is not known here`);
  const verify = target.verify === true;
  const name = target.sni ?? hostName(target.host);
  return {
    ...secret,
    // An empty name sends none; a check without a name would mean little, so `verify` sends the host's.
    servername: target.sni ?? (verify ? name : ""),
    rejectUnauthorized: verify,
    checkServerIdentity: (_, certificate) => (verify ? checkServerIdentity(name, certificate) : undefined),
  };
}

function hostName(host: string): string {
  return host.replace(/:\d+$/, "").replace(/^\[|\]$/g, "");
}

/** A sentence's end for people, without addresses of the cluster beyond what the token said. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return "the connection failed";
  const { code } = error as NodeJS.ErrnoException;
  return code === undefined ? error.message : `the connection failed with ${code}`;
}
