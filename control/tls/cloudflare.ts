/**
 * The calls of Cloudflare's API that TLS at the edge needs: custom hostnames (Cloudflare for SaaS) and custom certificates.
 *
 * In: a zone and a token. Out: what is there, and changes to it. Every call is one attempt with a time-out; what fails is
 * an `Error` with Cloudflare's own words. Sources: https://developers.cloudflare.com/api/resources/custom_hostnames and
 * https://developers.cloudflare.com/api/resources/custom_certificates
 */

import { z } from "zod";

export interface ZoneTlsOptions {
  /** `https://api.cloudflare.com/client/v4`, without a slash at its end. */
  readonly baseUrl: string;
  readonly zoneId: string;
  readonly token: string;
}

/** PEM texts. */
export interface UploadedCertificate {
  readonly certificate: string;
  readonly privateKey: string;
}

export interface CustomHostname {
  readonly id: string;
  readonly hostname: string;
  /** Of its certificate: `active`, `pending_validation`, …; absent where there is none. */
  readonly status?: string;
}

export interface CustomCertificate {
  readonly id: string;
  readonly hosts: readonly string[];
  /** RFC 3339. */
  readonly expiresOn: string;
}

export interface ZoneTls {
  readonly customHostnames: () => Promise<readonly CustomHostname[]>;
  /** With a certificate of one's own (Enterprise), or one that Cloudflare orders. */
  readonly createCustomHostname: (hostname: string, own?: UploadedCertificate) => Promise<CustomHostname>;
  readonly customCertificates: () => Promise<readonly CustomCertificate[]>;
  readonly uploadCertificate: (own: UploadedCertificate) => Promise<void>;
  readonly replaceCertificate: (id: string, own: UploadedCertificate) => Promise<void>;
}

const PAGE_SIZE = 50;
const TIMEOUT_MS = 30_000;

const envelope = z.object({
  success: z.boolean(),
  errors: z.array(z.object({ code: z.number().optional(), message: z.string().optional() })).nullish(),
  result: z.unknown(),
  result_info: z.object({ total_pages: z.number().optional() }).nullish(),
});
const hostname = z.object({
  id: z.string(),
  hostname: z.string(),
  ssl: z.object({ status: z.string().optional() }).nullish(),
});
const certificate = z.object({ id: z.string(), hosts: z.array(z.string()), expires_on: z.string() });

export function createZoneTls({ baseUrl, zoneId, token }: ZoneTlsOptions): ZoneTls {
  const call = async (
    method: string,
    path: string,
    body?: object,
  ): Promise<{ readonly result: unknown; readonly pages: number }> => {
    const response = await fetch(`${baseUrl}/zones/${encodeURIComponent(zoneId)}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(TIMEOUT_MS),
      redirect: "error",
    });
    const parsed = envelope.safeParse(await response.json().catch(() => undefined));
    if (!parsed.success)
      throw new Error(`Cloudflare answered ${response.status} to ${method} ${path} without its envelope`);
    const { success, errors, result, result_info: info } = parsed.data;
    if (!success || !response.ok) {
      const words = (errors ?? []).map(
        ({ code, message }) => `${message ?? "no message"} (code ${code ?? "none"})`,
      );
      throw new Error(
        `Cloudflare refused ${method} ${path} with ${response.status}: ${words.join(", ") || "no reason"}`,
      );
    }
    return { result, pages: info?.total_pages ?? 1 };
  };
  const list = async <T>(path: string, item: z.ZodType<T>): Promise<readonly T[]> => {
    const found: T[] = [];
    for (let page = 1, pages = 1; page <= pages; page++) {
      const answer = await call("GET", `${path}?page=${page}&per_page=${PAGE_SIZE}`);
      found.push(...z.array(item).parse(answer.result));
      pages = answer.pages;
    }
    return found;
  };
  const pemBody = (own: UploadedCertificate): object => ({
    certificate: own.certificate,
    private_key: own.privateKey,
    bundle_method: "ubiquitous",
  });
  const hostnameOf = ({ id, hostname: name, ssl }: z.infer<typeof hostname>): CustomHostname => ({
    id,
    hostname: name,
    ...(ssl?.status === undefined ? {} : { status: ssl.status }),
  });
  return {
    customHostnames: async () => (await list("/custom_hostnames", hostname)).map(hostnameOf),
    createCustomHostname: async (name, own) => {
      const ssl =
        own === undefined
          ? { method: "http", type: "dv", settings: { min_tls_version: "1.2" } }
          : { custom_certificate: own.certificate, custom_key: own.privateKey, bundle_method: "ubiquitous" };
      const { result } = await call("POST", "/custom_hostnames", { hostname: name, ssl });
      return hostnameOf(hostname.parse(result));
    },
    customCertificates: async () =>
      (await list("/custom_certificates", certificate)).map(({ id, hosts, expires_on: expiresOn }) => ({
        id,
        hosts,
        expiresOn,
      })),
    uploadCertificate: async (own) => {
      await call("POST", "/custom_certificates", { ...pemBody(own), type: "sni_custom" });
    },
    replaceCertificate: async (id, own) => {
      await call("PATCH", `/custom_certificates/${encodeURIComponent(id)}`, pemBody(own));
    },
  };
}
