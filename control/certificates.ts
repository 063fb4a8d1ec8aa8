/**
 * What is read out of X.509 certificates: names, times, the key identifier.
 *
 * In: PEM. Out: plain values, or nothing where one of them is no certificate. Node reads all but extensions by itself; the
 * subject key identifier (RFC 5280 §4.2.1.2) is found in the structure.
 */

import { X509Certificate } from "node:crypto";
import { nameAsRfc2253 } from "../edge-config/distinguished-name.ts";

export interface CertificateFacts {
  /** RFC 2253. */
  readonly subject: string;
  readonly issuer: string;
  /** Upper-case hexadecimal. */
  readonly keyId?: string;
  readonly certificate: X509Certificate;
}

/** Every certificate of a bundle, in its order; undefined where one cannot be read. */
export function readCertificates(pem: Uint8Array): readonly CertificateFacts[] | undefined {
  const blocks =
    Buffer.from(pem)
      .toString("latin1")
      .match(/-----BEGIN (?:TRUSTED )?CERTIFICATE-----[^-]*-----END (?:TRUSTED )?CERTIFICATE-----/g) ?? [];
  try {
    return blocks.map((block) => {
      const certificate = new X509Certificate(block);
      const keyId = subjectKeyId(certificate.raw);
      return {
        subject: nameAsRfc2253(certificate.subject ?? ""),
        issuer: nameAsRfc2253(certificate.issuer ?? ""),
        ...(keyId === undefined ? {} : { keyId }),
        certificate,
      };
    });
  } catch {
    return undefined;
  }
}

const SEQUENCE = 0x30;
const OCTET_STRING = 0x04;
const EXTENSIONS = 0xa3;
const SUBJECT_KEY_ID = Buffer.from([0x06, 0x03, 0x55, 0x1d, 0x0e]);

/** Walks down the structure that OpenSSL has already found right. */
function subjectKeyId(der: Buffer): string | undefined {
  const [certificate] = elements(der);
  const [tbs] = elements(certificate?.content ?? Buffer.alloc(0));
  const wrapper = elements(tbs?.content ?? Buffer.alloc(0)).find(({ tag }) => tag === EXTENSIONS);
  const [list] = elements(wrapper?.content ?? Buffer.alloc(0));
  for (const extension of elements(list?.content ?? Buffer.alloc(0))) {
    if (extension.tag !== SEQUENCE || !extension.content.subarray(0, 5).equals(SUBJECT_KEY_ID)) continue;
    const value = elements(extension.content).find(({ tag }) => tag === OCTET_STRING);
    const [id] = elements(value?.content ?? Buffer.alloc(0));
    return id?.tag === OCTET_STRING ? id.content.toString("hex").toUpperCase() : undefined;
  }
  return undefined;
}

function elements(der: Buffer): readonly { readonly tag: number; readonly content: Buffer }[] {
  const found: { readonly tag: number; readonly content: Buffer }[] = [];
  for (let at = 0; at + 2 <= der.length; ) {
    const tag = der.readUInt8(at);
    const first = der.readUInt8(at + 1);
    const width = first < 0x80 ? 0 : first & 0x7f;
    if (width > 4 || at + 2 + width > der.length) break;
    const length = width === 0 ? first : der.readUIntBE(at + 2, width);
    const start = at + 2 + width;
    found.push({ tag, content: der.subarray(start, start + length) });
    at = start + length;
  }
  return found;
}
