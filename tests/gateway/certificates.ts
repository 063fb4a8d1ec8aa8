/** A private authority with certificates for pods and clients, made by the `openssl` command for one test run. */

import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

export interface Authority {
  readonly ca: string;
  /** A certificate for a server name, or for a client of that common name; `days` may be negative. */
  readonly issue: (name: string, days?: number) => Promise<Certificate>;
  /** An authority below this one; certificates of it come with its own behind them. */
  readonly intermediate: (name: string) => Promise<Pick<Authority, "issue">>;
}

const run = promisify(execFile);

/** `use` gets an authority that exists until it returns. */
export async function createAuthority(): Promise<Authority & { readonly close: () => Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), "fairlead-ca-"));
  const path = (file: string): string => join(folder, file);
  const elliptic = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  await run("openssl", [
    ...["req", "-x509", ...elliptic, "-days", "2", "-subj", "/CN=Test authority"],
    ...["-keyout", path("ca.key"), "-out", path("ca.crt")],
  ]);
  let serial = 1;
  const sign = async (name: string, extensions: string, days: number, issuer = "ca"): Promise<string> => {
    const id = String(serial++);
    await writeFile(path(`${id}.ext`), extensions);
    await run("openssl", [
      ...["req", ...elliptic, "-subj", `/CN=${name}`],
      ...["-keyout", path(`${id}.key`), "-out", path(`${id}.csr`)],
    ]);
    await run("openssl", [
      ...["x509", "-req", "-days", String(days), "-set_serial", id, "-extfile", path(`${id}.ext`)],
      ...["-CA", path(`${issuer}.crt`), "-CAkey", path(`${issuer}.key`)],
      ...["-in", path(`${id}.csr`), "-out", path(`${id}.crt`)],
    ]);
    return id;
  };
  const text = (file: string): Promise<string> => readFile(path(file), "utf8");
  const issue = async (name: string, days = 2, issuer?: string): Promise<Certificate> => {
    const id = await sign(name, `subjectAltName=DNS:${name}\n`, days, issuer);
    const chain = issuer === undefined ? "" : await text(`${issuer}.crt`);
    return { cert: (await text(`${id}.crt`)) + chain, key: await text(`${id}.key`) };
  };
  return {
    ca: await text("ca.crt"),
    issue: (name, days) => issue(name, days),
    intermediate: async (name) => {
      const id = await sign(name, "basicConstraints=critical,CA:TRUE\nsubjectKeyIdentifier=hash\n", 2);
      return { issue: (leaf, days) => issue(leaf, days, id) };
    },
    close: () => rm(folder, { recursive: true, force: true }),
  };
}
