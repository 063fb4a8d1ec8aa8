/** `fairlead tls report` and `apply` as a person runs them. */

import { execFile } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { buildClusterModel } from "../../cluster/build.ts";
import { readManifests } from "../../cluster/files.ts";
import { compile } from "../../control/compile/compile.ts";
import { type ApplyOptions, applyTls } from "../../control/tls/apply.ts";
import { createZoneTls } from "../../control/tls/cloudflare.ts";
import { reportTls } from "../../control/tls/report.ts";
import { type Certificate, createAuthority } from "../gateway/certificates.ts";
import { startZoneServer, TOKEN, ZONE_ID, type ZoneServer } from "./zone-server.ts";

let folder: string;
let shop: Certificate;
let partner: Certificate;
let renewed: Certificate;
let ca: string;
let zone: ZoneServer;

beforeAll(async () => {
  const authority = await createAuthority();
  ca = authority.ca;
  [shop, partner, renewed] = await Promise.all([
    authority.issue("shop.example.com"),
    authority.issue("shop.partner.example"),
    authority.issue("shop.example.com", 30),
  ]);
  await authority.close();
  folder = await mkdtemp(join(tmpdir(), "fairlead-tls-"));
  await write(shop);
});

afterAll(() => rm(folder, { recursive: true, force: true }));

beforeEach(async () => {
  zone = await startZoneServer((pem) => {
    const { subjectAltName = "", validTo } = new X509Certificate(pem);
    return {
      hosts: subjectAltName.split(", ").map((name) => name.replace("DNS:", "")),
      expires_on: new Date(validTo).toISOString(),
    };
  });
});

afterEach(() => zone.close());

async function write(ofShop: Certificate): Promise<void> {
  const secret = (name: string, data: Readonly<Record<string, string>>): object => ({
    apiVersion: "v1",
    kind: "Secret",
    metadata: { namespace: "shop", name },
    stringData: data,
  });
  const site = (
    host: string,
    secretName?: string,
    annotations: Readonly<Record<string, string>> = {},
  ): object => ({
    apiVersion: "networking.k8s.io/v1",
    kind: "Ingress",
    metadata: {
      namespace: "shop",
      name: host.replaceAll(/[^a-z]/g, "-").replace(/^-+/, "w"),
      annotations: Object.fromEntries(
        Object.entries(annotations).map(([name, value]) => [`nginx.ingress.kubernetes.io/${name}`, value]),
      ),
    },
    spec: {
      ...(secretName === undefined ? {} : { tls: [{ hosts: [host], secretName }] }),
      rules: [
        {
          host,
          http: {
            paths: [
              { path: "/", pathType: "Prefix", backend: { service: { name: "web", port: { number: 80 } } } },
            ],
          },
        },
      ],
    },
  });
  await writeFile(
    join(folder, "manifests.yaml"),
    [
      secret("web", { "tls.crt": ofShop.cert, "tls.key": ofShop.key }),
      secret("partner", { "tls.crt": partner.cert, "tls.key": partner.key }),
      secret("broken", { "tls.crt": "x", "tls.key": "y" }),
      secret("clients", { "ca.crt": ca }),
      site("shop.example.com", "web"),
      site("deep.shop.example.com", "web"),
      site("shop.partner.example", "partner"),
      site("other.partner.example", "broken"),
      site("gone.example.com", "nowhere"),
      site("vault.example.com", undefined, { "ssl-passthrough": "true" }),
      site("bank.example.com", undefined, { "auth-tls-secret": "shop/clients" }),
      site("plain.example.com"),
    ]
      .map((object) => JSON.stringify(object))
      .join("\n---\n"),
  );
}

async function fairlead(
  args: readonly string[],
  token: string | undefined = TOKEN,
): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }> {
  const main = join(import.meta.dirname, "../../cli/main.ts");
  const environment = {
    PATH: process.env.PATH,
    ...(token === undefined ? {} : { FAIRLEAD_TLS_TOKEN: token }),
  };
  try {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [main, "tls", ...args], {
      env: environment,
    });
    return { code: 0, stdout, stderr };
  } catch (error) {
    return error as { code: number; stdout: string; stderr: string };
  }
}

const apply = (...more: readonly string[]): ReturnType<typeof fairlead> =>
  fairlead([
    "apply",
    "-f",
    folder,
    "--zone",
    "example.com",
    "--zone-id",
    ZONE_ID,
    "--api",
    zone.url,
    ...more,
  ]);

/** The same without a process of its own: its start costs more than all of its work. */
async function applyHere(options: Partial<ApplyOptions>): Promise<readonly string[]> {
  const { model } = buildClusterModel((await readManifests([folder])).objects);
  const report = reportTls(model, compile(model).config, ["example.com"]);
  const client = createZoneTls({ baseUrl: zone.url, zoneId: ZONE_ID, token: TOKEN });
  const off = { customHostnames: false, uploadCertificates: false, dryRun: false };
  const steps = await applyTls(report, model, client, { ...off, ...options });
  return steps.map(({ kind, text }) => `${kind}: ${text}`);
}

describe("the report", () => {
  test("says of each host where its certificate comes from, and what its Secret holds", async () => {
    const { code, stdout } = await fairlead(["report", "-f", folder, "--zone", "example.com", "--json"]);
    expect(code).toBe(0);
    const { hosts } = JSON.parse(stdout) as { hosts: { host: string }[] };
    expect(hosts).toMatchObject([
      { host: "bank.example.com", edge: { kind: "universal" }, clientAuthority: "shop/clients" },
      {
        host: "deep.shop.example.com",
        edge: { kind: "advanced", zone: "example.com" },
        secret: { kind: "certificate", isForHost: false },
      },
      {
        host: "gone.example.com",
        edge: { kind: "universal" },
        secret: { kind: "missing", name: "shop/nowhere" },
      },
      { host: "other.partner.example", edge: { kind: "customHostname" }, secret: { kind: "unreadable" } },
      {
        host: "shop.example.com",
        edge: { kind: "universal", zone: "example.com" },
        secret: {
          name: "shop/web",
          kind: "certificate",
          subject: "CN=shop.example.com",
          isForHost: true,
          notAfter: new Date(new X509Certificate(shop.cert).validTo).toISOString(),
        },
      },
      { host: "shop.partner.example", edge: { kind: "customHostname" }, secret: { isForHost: true } },
      { host: "vault.example.com", edge: { kind: "passthrough" } },
    ]);
    expect(hosts).toHaveLength(7);
  });

  test("is for people too, and needs no token", async () => {
    const { code, stdout } = await fairlead(["report", "-f", folder], undefined);
    expect(code).toBe(0);
    expect(stdout).toContain("shop.example.com (Ingress shop/shop-example-com)\n  edge: depends on the zone");
    expect(stdout).toMatch(/Secret shop\/web: CN=shop\.example\.com, until .*, NOT for this host/);
  });
});

describe("apply", () => {
  test("calls nobody without a switch, a token or a zone", async () => {
    for (const run of [
      apply(),
      fairlead(
        ["apply", "-f", folder, "--zone", "example.com", "--zone-id", ZONE_ID, "--custom-hostnames"],
        "",
      ),
      fairlead(["apply", "-f", folder, "--zone-id", ZONE_ID, "--custom-hostnames", "--api", zone.url]),
    ])
      expect((await run).code).toBe(2);
    expect(zone.changes).toEqual([]);
  }, 60_000);

  test("creates custom hostnames, and none a second time", async () => {
    zone.hostnames.push(
      ...["a", "b", "c"].map((name) => ({
        id: name,
        hostname: `${name}.example.net`,
        ssl: { status: "active" },
      })),
    );
    expect(await applyHere({ customHostnames: true })).toEqual([
      "done: create custom hostname other.partner.example with a certificate that Cloudflare orders",
      "done: create custom hostname shop.partner.example with a certificate that Cloudflare orders",
    ]);
    expect(zone.hostnames.at(-1)).toMatchObject({
      hostname: "shop.partner.example",
      ssl: { method: "http", type: "dv" },
    });
    expect(await applyHere({ customHostnames: true })).toEqual(
      ["other", "shop"].map(
        (name) =>
          `unchanged: custom hostname ${name}.partner.example is there (certificate: pending_validation)`,
      ),
    );
    expect(zone.changes).toHaveLength(2);
  });

  test("uploads the Secrets' certificates, and replaces those that were renewed", async () => {
    await applyHere({ customHostnames: true, uploadCertificates: true });
    expect(zone.hostnames.find(({ hostname }) => hostname === "shop.partner.example")?.ssl).toMatchObject({
      custom_certificate: partner.cert,
      custom_key: partner.key,
    });
    expect(zone.certificates).toMatchObject([
      {
        hosts: ["shop.example.com"],
        body: { certificate: shop.cert, private_key: shop.key, type: "sni_custom" },
      },
    ]);
    expect(await applyHere({ uploadCertificates: true })).toEqual([
      "unchanged: the certificate of shop/web is there",
    ]);
    await write(renewed);
    try {
      expect(await applyHere({ uploadCertificates: true })).toEqual([
        "done: replace the certificate for shop.example.com by that of shop/web",
      ]);
      expect(zone.certificates).toMatchObject([{ body: { certificate: renewed.cert } }]);
    } finally {
      await write(shop);
    }
  });

  test("tells what it would do", async () => {
    const { stdout } = await apply("--custom-hostnames", "--upload-certificates", "--dry-run");
    expect(stdout.match(/^planned: /gm)).toHaveLength(3);
    expect(zone.changes).toEqual([]);
  });

  test("a refusal costs itself only, in Cloudflare's words, and no key is printed", async () => {
    zone.refused.add("other.partner.example");
    const { code, stdout, stderr } = await apply("--custom-hostnames");
    expect(code).toBe(1);
    expect(stderr).toContain("Duplicate custom hostname found. (code 1406)");
    expect(stdout).toContain("done: create custom hostname shop.partner.example");
    const wrong = await fairlead(
      [
        "apply",
        "-f",
        folder,
        "--zone",
        "example.com",
        "--zone-id",
        ZONE_ID,
        "--api",
        zone.url,
        "--custom-hostnames",
      ],
      "wrong",
    );
    expect([wrong.code, wrong.stderr.trim().split("\n").length]).toEqual([1, 1]);
    expect(wrong.stderr).toContain("Authentication error");
    expect(stdout + stderr + wrong.stderr).not.toContain("PRIVATE KEY");
  }, 60_000);
});
