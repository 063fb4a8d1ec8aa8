/**
 * Certificates of clients in `fairlead dev --protocol https`: whom to ask for one, and what came of it.
 *
 * In: the edge configuration and the cluster's Secrets, again after every change; then TLS connections. Out: the authority
 * for a server name, and what Cloudflare would tell the Worker of a connection (`request.cf.tlsClientAuth`). Nobody is
 * refused here: the Worker decides, as it does at the edge.
 */

import { constants, X509Certificate } from "node:crypto";
import type { Socket } from "node:net";
import { createSecureContext, type DetailedPeerCertificate, TLSSocket } from "node:tls";
import type { ClusterModel, ObjectName, Secret } from "../../cluster/model.ts";
import { type CertificateFacts, readCertificates } from "../../control/certificates.ts";
import { ANY_HOST, type EdgeConfig } from "../../edge-config/config.ts";
import { nameAsRfc2253 } from "../../edge-config/distinguished-name.ts";
import { wildcardOf } from "../../edge-config/pointer.ts";
import type { CertificateAndKey } from "./self-signed.ts";

/** Who may have signed certificates of clients: PEM texts. */
export interface ClientAuthority {
  readonly ca: string;
  /** Revoked ones. */
  readonly crl?: string;
}

/** What is asked of clients of one host. */
export interface ClientDemand {
  readonly authority: ClientAuthority;
  /** What its bundle holds. */
  readonly bundle: readonly CertificateFacts[];
  /** Certificates between the client's and the authority's. */
  readonly depth: number;
}

export class ClientDemands {
  #hosts: EdgeConfig["hosts"] = {};
  #model: Pick<ClusterModel, "secrets"> = { secrets: new Map() };
  /** By the Secret's very object, so that a context is made once for it. */
  readonly #demands = new WeakMap<Secret, Omit<ClientDemand, "depth">>();

  update(config: EdgeConfig, model: ClusterModel): void {
    this.#hosts = config.hosts;
    this.#model = model;
  }

  /** Undefined: clients of this name are asked for nothing. */
  find(serverName: string | undefined): ClientDemand | undefined {
    const name = serverName ?? "";
    const host = this.#hosts[name] ?? this.#hosts[wildcardOf(name) ?? ""] ?? this.#hosts[ANY_HOST];
    const policy = host?.policies?.clientCertificate;
    if (policy === undefined || policy.verifies === "off") return undefined;
    const secret = this.#model.secrets.get(policy.secret as ObjectName);
    const demand = secret === undefined ? undefined : this.#demandOf(secret);
    return demand === undefined ? undefined : { ...demand, depth: policy.depth };
  }

  #demandOf(secret: Secret): Omit<ClientDemand, "depth"> | undefined {
    let demand = this.#demands.get(secret);
    if (demand === undefined) {
      const bytes = secret.data.get("ca.crt");
      if (bytes === undefined) return undefined;
      const crl = secret.data.get("ca.crl");
      const text = (pem: Uint8Array): string => Buffer.from(pem).toString("utf8");
      demand = {
        authority: { ca: text(bytes), ...(crl === undefined ? {} : { crl: text(crl) }) },
        bundle: readCertificates(bytes) ?? [],
      };
      this.#demands.set(secret, demand);
    }
    return demand;
  }
}

/**
 * The handshake with a client that is asked for a certificate. `done` gets what Cloudflare would tell of it, nothing where
 * the client showed none. Sessions are not resumed: a resumed one has lost the chain by which it was verified.
 */
export function askForCertificate(
  client: Socket,
  demand: ClientDemand,
  own: CertificateAndKey,
  done: (socket: TLSSocket, told: Readonly<Record<string, string>> | undefined) => void,
): void {
  const socket = new TLSSocket(client, {
    isServer: true,
    secureContext: createSecureContext({
      ...own,
      ...demand.authority,
      secureOptions: constants.SSL_OP_NO_TICKET,
    }),
    requestCert: true,
    // The Worker decides, by what it is told.
    rejectUnauthorized: false,
    ALPNProtocols: HTTP1_ALPN,
  });
  socket.once("error", () => client.destroy());
  // Only now has Node the whole chain; a server's `secureConnection` comes too late for it.
  socket.once("secure", () => done(socket, tellClientCertificate(socket, demand)));
}

/** As the wire has it (RFC 7301 §3.1): a TLSSocket takes no list. */
const HTTP1_ALPN = Buffer.from("\x08http/1.1", "latin1");

/** As `request.cf.tlsClientAuth` has it, as far as the Worker reads it. */
function tellClientCertificate(
  socket: TLSSocket,
  { bundle, depth }: ClientDemand,
): Readonly<Record<string, string>> | undefined {
  const peer = socket.getPeerCertificate(true) as DetailedPeerCertificate | undefined;
  if (peer?.raw === undefined) return undefined;
  const leaf = new X509Certificate(peer.raw);
  const path = pathToAuthority(leaf, presented(peer), bundle);
  const problem =
    verificationProblem(socket) ?? (path !== undefined && path.between > depth ? CHAIN_TOO_LONG : undefined);
  return {
    certPresented: "1",
    certRevoked: problem === "certificate revoked" ? "1" : "0",
    certVerified: problem === undefined ? "SUCCESS" : `FAILED:${problem}`,
    certSubjectDNRFC2253: nameAsRfc2253(leaf.subject ?? ""),
    certIssuerDNRFC2253: nameAsRfc2253(leaf.issuer ?? ""),
    // The whole chain was verified by the host's own bundle, so its end is what the Worker shall go by.
    certIssuerSKI: path?.authority.keyId ?? "",
    certRFC9440: `:${peer.raw.toString("base64")}:`,
  };
}

const CHAIN_TOO_LONG = "certificate chain too long";

/**
 * OpenSSL's verdict in its own words (`X509_verify_cert_error_string`). Node gives it to its own servers alone, as
 * `authorized`, so it is asked of the handle; should that ever be gone, nobody is believed.
 */
function verificationProblem(socket: TLSSocket): string | undefined {
  const { _handle: handle } = socket as unknown as {
    readonly _handle?: { readonly verifyError?: () => Error | null };
  };
  if (typeof handle?.verifyError !== "function") return "verification is not available";
  return handle.verifyError()?.message.replace(/;.*/s, ""); // Node adds advice for other cases.
}

/** What came behind the client's own certificate. */
function presented(peer: DetailedPeerCertificate): readonly X509Certificate[] {
  const found: X509Certificate[] = [];
  const seen = new Set([peer]);
  for (let at = peer.issuerCertificate; at?.raw !== undefined && !seen.has(at); at = at.issuerCertificate) {
    seen.add(at);
    found.push(new X509Certificate(at.raw));
  }
  return found;
}

/** The way that OpenSSL found, which Node does not tell: up to a certificate of the bundle that signed itself. */
function pathToAuthority(
  leaf: X509Certificate,
  sent: readonly X509Certificate[],
  bundle: readonly CertificateFacts[],
): { readonly authority: CertificateFacts; readonly between: number } | undefined {
  let current = leaf;
  // A chain never has more steps than there are certificates.
  for (let between = 0; between <= sent.length + bundle.length; between++) {
    const authority = bundle.find(({ certificate }) => current.checkIssued(certificate));
    if (authority !== undefined && authority.subject === authority.issuer) return { authority, between };
    const next = authority?.certificate ?? sent.find((certificate) => current.checkIssued(certificate));
    if (next === undefined) return undefined;
    current = next;
  }
  return undefined;
}
