/**
 * The certificate that `fairlead dev --protocol https` shows where no Secret has one: made anew for every run, signed by
 * itself, so clients have to be told to accept it (`curl -k`).
 *
 * Node makes keys and signatures but no certificates, so the X.509 structure (RFC 5280 §4.1) is put together here.
 */

import { createSign, generateKeyPairSync, randomBytes } from "node:crypto";

export interface CertificateAndKey {
  /** PEM. */
  readonly cert: string;
  /** PEM. */
  readonly key: string;
}

const DAY_MILLISECONDS = 24 * 60 * 60 * 1000;

/** ECDSA on P-256, good for 90 days. The first name is the subject; addresses may be names too. */
export function createSelfSignedCertificate(names: readonly string[], now = Date.now()): CertificateAndKey {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const algorithm = sequence(objectIdentifier([1, 2, 840, 10045, 4, 3, 2])); // ecdsa-with-SHA256
  const name = sequence(
    set(sequence(objectIdentifier([2, 5, 4, 3]), der(0x0c, Buffer.from(names[0] ?? "fairlead")))), // commonName
  );
  const serial = randomBytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40; // Positive, and of full length.
  const toBeSigned = sequence(
    der(0xa0, integer(Buffer.from([2]))), // version 3
    integer(serial),
    algorithm,
    name,
    sequence(time(now - DAY_MILLISECONDS), time(now + 90 * DAY_MILLISECONDS)),
    name,
    publicKey.export({ type: "spki", format: "der" }),
    der(0xa3, sequence(extension([2, 5, 29, 17], sequence(...names.map(generalName))))), // subjectAltName
  );
  const signature = createSign("sha256").update(toBeSigned).sign(privateKey);
  const certificate = sequence(
    toBeSigned,
    algorithm,
    der(0x03, Buffer.concat([Buffer.from([0]), signature])),
  );
  return {
    cert: `-----BEGIN CERTIFICATE-----\n${certificate.toString("base64").replaceAll(/.{64}/g, "$&\n").trimEnd()}\n-----END CERTIFICATE-----\n`,
    key: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
  };
}

function der(tag: number, ...contents: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(contents);
  const { length } = content;
  const size =
    length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...size]), content]);
}

function sequence(...contents: readonly Uint8Array[]): Buffer {
  return der(0x30, ...contents);
}

function set(...contents: readonly Uint8Array[]): Buffer {
  return der(0x31, ...contents);
}

function integer(bytes: Uint8Array): Buffer {
  return der(0x02, bytes);
}

function objectIdentifier([first = 0, second = 0, ...rest]: readonly number[]): Buffer {
  const bytes = [first * 40 + second];
  for (const part of rest) {
    const groups = [part & 0x7f];
    for (let left = part >> 7; left > 0; left >>= 7) groups.unshift((left & 0x7f) | 0x80);
    bytes.push(...groups);
  }
  return der(0x06, Buffer.from(bytes));
}

function extension(identifier: readonly number[], value: Uint8Array): Buffer {
  return sequence(objectIdentifier(identifier), der(0x04, value));
}

/** UTCTime, which serves until 2049. */
function time(milliseconds: number): Buffer {
  const digits = new Date(milliseconds)
    .toISOString()
    .replaceAll(/[-:T]|\.\d+/g, "")
    .slice(2);
  return der(0x17, Buffer.from(digits));
}

function generalName(name: string): Buffer {
  const bytes = /^\d+\.\d+\.\d+\.\d+$/.test(name) ? Buffer.from(name.split(".").map(Number)) : undefined;
  return bytes === undefined ? der(0x82, Buffer.from(name)) : der(0x87, bytes);
}
