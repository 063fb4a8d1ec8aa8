import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { findConntrackObstacle, findObstacle } from "./requirements.ts";
import { makeNamespace, whyNoKernel } from "./testing/namespace.ts";

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

/** A PATH on which there is nothing but these scripts. */
function onlyPrograms(programs: Readonly<Record<string, string>>): readonly string[] {
  const folder = mkdtempSync(join(tmpdir(), "fairlead-programs-"));
  folders.push(folder);
  for (const [name, script] of Object.entries(programs))
    writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return ["env", `PATH=${folder}`, "/bin/sh", "-c", 'exec "$0" "$@"'];
}

const families = ["IPv4", "IPv6"] as const;

describe("one sentence", () => {
  test.each([
    [
      "an old nft",
      "nftables",
      { nft: "echo 'nftables v0.9.8 (E.D.S.)'" },
      "nft 0.9.8 is too old: 1.0.1 or newer",
    ],
    ["another program", "nftables", { nft: "echo hello" }, "nft tells no version that can be read: hello."],
    [
      "no rights",
      "nftables",
      {
        nft: "case $1 in --version) echo v1.0.6;; *) echo 'Error: Could not process rule: Operation not permitted' >&2; exit 1;; esac",
      },
      "Rules can be changed by root, or with CAP_NET_ADMIN, only.",
    ],
    [
      "a kernel without a module",
      "nftables",
      {
        nft: "case $1 in --version) echo v1.1.3;; *) while read -r line; do case $line in *masquerade*) echo '/dev/stdin:1:1-2: Error: Could not process rule: No such file or directory' >&2; exit 1;; esac; done;; esac",
      },
      "The kernel has no masquerading in nftables for IPv4 (module nft_masq): No such file or directory.",
    ],
    [
      "a kernel without ip_tables",
      "iptables",
      {
        "iptables-save":
          'echo "iptables-save v1.8.9 (legacy): Cannot initialize: Table does not exist (do you need to insmod?)" >&2; exit 3',
      },
      "The kernel has no iptables table nat for IPv4",
    ],
  ] as const)("%s", async (_, backend, programs, sentence) => {
    const obstacle = await findObstacle({ backend, families }, { through: onlyPrograms(programs) });
    expect(obstacle).toContain(sentence);
  });

  test("a newer major version is new enough", async () => {
    const through = onlyPrograms({ nft: "echo 'nftables v2.0.0'" });
    expect(await findObstacle({ backend: "nftables", families }, { through })).toBeUndefined();
  });

  test("a program that is missing", async () => {
    const path = process.env.PATH;
    process.env.PATH = onlyPrograms({})[1]?.slice("PATH=".length);
    try {
      expect(await findObstacle({ backend: "nftables", families })).toBe(
        "The nftables backend needs nft, which is not installed.",
      );
      expect(await findObstacle({ backend: "iptables", families, variant: "legacy" })).toBe(
        "The iptables backend needs iptables-legacy-save, which is not installed.",
      );
      expect(await findConntrackObstacle()).toContain("conntrack is not installed");
    } finally {
      process.env.PATH = path;
    }
  });
});

const reason = whyNoKernel(["nft", "iptables-nft-save", "iptables-legacy-save", "conntrack"]);

describe.skipIf(reason !== undefined)(`this kernel${reason === undefined ? "" : ` (${reason})`}`, () => {
  test("has what is needed, and probing leaves nothing behind", async () => {
    const space = makeNamespace("req");
    try {
      expect(await findObstacle({ backend: "nftables", families }, space)).toBeUndefined();
      for (const variant of ["legacy", "nft"] as const)
        expect(await findObstacle({ backend: "iptables", families, variant }, space)).toBeUndefined();
      expect(await findConntrackObstacle(space)).toBeUndefined();
      expect(space.run("nft list tables")).not.toContain("fairlead");
    } finally {
      space.remove();
    }
  });

  test("without rights", async () => {
    const through = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    const sentence = "Rules can be changed by root, or with CAP_NET_ADMIN, only.";
    for (const backend of ["nftables", "iptables"] as const)
      expect(await findObstacle({ backend, families }, { through })).toBe(sentence);
    expect(await findConntrackObstacle({ through })).toContain("you must be root");
  });
});
