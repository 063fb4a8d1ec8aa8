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
  /** A certificate for a server name, or for a client of that common name. */
  readonly issue: (name: string) => Promise<Certificate>;
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
  return {
    ca: await readFile(path("ca.crt"), "utf8"),
    issue: async (name) => {
      const id = String(serial++);
      await writeFile(path(`${id}.ext`), `subjectAltName=DNS:${name}\n`);
      await run("openssl", [
        ...["req", ...elliptic, "-subj", `/CN=${name}`],
        ...["-keyout", path(`${id}.key`), "-out", path(`${id}.csr`)],
      ]);
      await run("openssl", [
        ...["x509", "-req", "-days", "2", "-set_serial", id, "-extfile", path(`${id}.ext`)],
        ...[
          "-CA",
          path("ca.crt"),
          "-CAkey",
          path("ca.key"),
          "-in",
          path(`${id}.csr`),
          "-out",
          path(`${id}.crt`),
        ],
      ]);
      return {
        cert: await readFile(path(`${id}.crt`), "utf8"),
        key: await readFile(path(`${id}.key`), "utf8"),
      };
    },
    close: () => rm(folder, { recursive: true, force: true }),
  };
}
