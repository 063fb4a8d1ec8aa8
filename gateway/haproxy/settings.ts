/** What an operator says about HAProxy as the gateway of a cluster. Checked by whoever reads it from flags. */

import type { TokenKey } from "../../edge-config/gateway-token.ts";
import type { AddressSettings } from "../allowed-addresses.ts";
import type { TlsSecret } from "../dial.ts";
import type { PassthroughHosts } from "../passthrough.ts";
import type { TcpService } from "../tcp-service.ts";

export interface HaproxySettings extends AddressSettings {
  /** Any of them may have signed a token. */
  readonly keys: readonly TokenKey[];
  /** As `bind` takes it: `:8080`, `127.0.0.1:8080`, `[::]:8080`. */
  readonly listen: string;
  /** Certificate and key in one PEM text: the listener speaks TLS then. */
  readonly listenCertificate?: string;
  /** Where `/healthz` and `/metrics` are. */
  readonly healthListen: string;
  /** Secrets that tokens may name for TLS towards pods, by `namespace/name`. */
  readonly tlsSecrets: ReadonlyMap<string, TlsSecret>;
  /** DNS servers as `10.96.0.10:53`; none: those of /etc/resolv.conf. */
  readonly nameservers: readonly string[];
  readonly connectTimeoutMs: number;
  /** How long a stopped process finishes what is under way. */
  readonly drainSeconds: number;
  /** Absolute path of the folder in which HAProxy finds the files; certificates need it. */
  readonly folder: string;
  /** Largest head of a request, in KiB. Every request under way costs about twice this, and large buffers are slow. */
  readonly maxHeadKibibytes: number;
  /** Absent: as many as the limit of open files gives, 25 000 at most. */
  readonly maxConnections?: number;
  /** TLS that ends at pods; absent: there is no port for it. */
  readonly passthrough?: PassthroughSettings;
  /** Ports of TCP services, in the order of their numbers. */
  readonly tcpServices: readonly TcpServiceSettings[];
  /** Where they listen; absent: at every address. IPv6 in brackets. */
  readonly tcpAddress?: string;
  /** Unix socket of HAProxy's runtime API; absent: there is none. */
  readonly adminSocket?: string;
}

export interface PassthroughSettings {
  /** As `bind` takes it. */
  readonly listen: string;
  /** Connections begin with a PROXY header, of either version. */
  readonly acceptsProxy: boolean;
  readonly hosts: PassthroughHosts;
  /** `address:port` that gets every other name, and clients that send none; absent: they are closed. */
  readonly otherwise?: string;
}

/** One port of a `tcp-services` ConfigMap. */
export interface TcpServiceSettings extends TcpService {
  readonly port: number;
  /** `namespace/service:port`, for people who read the configuration. */
  readonly name: string;
}

/** A file that HAProxy reads, named relative to its configuration. */
export interface RenderedFile {
  readonly name: string;
  readonly text: string;
  /** Whether it holds a key: only its owner may read it then. */
  readonly secret: boolean;
}
