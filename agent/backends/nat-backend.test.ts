import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { createNat, type Nat, type NatService } from "../../wasm-nat/nat.ts";
import { makeNamespace, type TestNamespace, whyNoKernel } from "../testing/namespace.ts";
import { OneFamilyError } from "./backend.ts";
import { NatBackend } from "./nat-backend.ts";
import { createReadBack, type ReadBack } from "./read-back.ts";

const reason = whyNoKernel(["iptables", "ip6tables"]);
const FAMILIES = ["IPv4", "IPv6"] as const;

describe.skipIf(reason !== undefined)(`iptables${reason === undefined ? "" : ` (${reason})`}`, () => {
  let space: TestNamespace;
  /** Programs in it come before those of the system. */
  let folder: string;
  let nat: Nat;
  let backend: NatBackend;

  beforeAll(() => {
    space = makeNamespace("family");
    folder = mkdtempSync(join(tmpdir(), "fairlead-family-"));
  });
  afterAll(() => {
    space.remove();
    rmSync(folder, { recursive: true, force: true });
  });
  beforeEach(async () => {
    nat = await createNat();
    const addresses = { IPv4: ["192.168.0.2"], IPv6: ["fd00::2"] };
    nat.configure({ backend: "iptables", node: { name: "a", addresses }, families: FAMILIES });
    backend = new NatBackend({
      nat,
      readBack: createReadBack("iptables", FAMILIES),
      takeChanges: () => {},
      kernel: { through: [...space.through, "env", `PATH=${folder}:${process.env.PATH}`] },
    });
  });

  const refuse = (program: string): (() => void) => {
    const file = join(folder, program);
    writeFileSync(file, "#!/bin/sh\necho refused by a test >&2\nexit 1\n");
    chmodSync(file, 0o755);
    return () => rmSync(file);
  };
  const add = (last: number): void =>
    nat.apply({ services: [serviceAt(`s${last}`, [`172.30.0.${last}`, `fd00:172:30::${last}`])] });
  /** Of the Services that were added, those that each family has rules of. */
  const held = () =>
    ["iptables-save", "ip6tables-save"].map((program) =>
      [...new Set(space.run(`${program} -t filter`).match(/(?<=shop\/)s\d+/g))].sort(),
    );

  test.each([
    ["ip6tables-restore", "IPv6"],
    ["iptables-restore", "IPv4"],
  ] as const)("where %s fails, the other family is written all the same", async (program, family) => {
    add(1);
    await backend.resync();
    expect(held()).toEqual([["s1"], ["s1"]]);
    const allow = refuse(program);
    add(2);
    const failure: unknown = await backend.write().catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(OneFamilyError);
    expect(failure).toMatchObject({ family, message: expect.stringContaining("refused by a test") });
    const [both, one] = [["s1", "s2"], ["s1"]];
    expect(held()).toEqual(family === "IPv6" ? [both, one] : [one, both]);

    add(3);
    await expect(backend.resync()).rejects.toThrow(OneFamilyError);
    const [all] = [["s1", "s2", "s3"]];
    expect(held()).toEqual(family === "IPv6" ? [all, one] : [one, all]);
    allow();
    await backend.resync();
    expect(held()).toEqual([all, all]);
    expect(await backend.write()).toEqual({ changes: 0 });
  });
});

const noNft = whyNoKernel(["nft"]);

describe.skipIf(noNft !== undefined)(`nftables${noNft === undefined ? "" : ` (${noNft})`}`, () => {
  let space: TestNamespace;
  beforeAll(() => {
    space = makeNamespace("dear");
  });
  afterAll(() => space.remove());

  test("a fingerprint that is dear to read holds up no change, is read seldom, and finds what others have done", async () => {
    const DEAR_MS = 5_000;
    let nowMs = 0;
    let readings = 0;
    let gate = Promise.resolve();
    const real = createReadBack("nftables", FAMILIES);
    const readBack: ReadBack = {
      ...real,
      fingerprint: async (options) => {
        readings++;
        nowMs += DEAR_MS;
        await gate;
        return real.fingerprint?.(options) ?? "";
      },
    };
    const nat = await createNat();
    const addresses = { IPv4: ["192.168.0.2"], IPv6: ["fd00::2"] };
    nat.configure({ backend: "nftables", node: { name: "a", addresses }, families: FAMILIES });
    const kernel = { through: space.through };
    const backend = new NatBackend({ nat, readBack, takeChanges: () => {}, kernel, nowMs: () => nowMs });
    nat.apply({ services: [serviceAt("s1", ["172.30.0.1", "fd00:172:30::1"])] });
    await backend.resync();
    expect(readings).toBe(1);

    // Not before it has paid for itself.
    expect(await backend.audit()).toEqual({ kind: "intact" });
    expect(readings).toBe(1);

    nowMs += 24 * DEAR_MS;
    space.run("nft flush chain ip fairlead no-endpoints");
    const opened = Promise.withResolvers<void>();
    gate = opened.promise;
    expect(await backend.audit()).toEqual({ kind: "intact" });
    expect(readings).toBe(2);
    nat.apply({ services: [serviceAt("s2", ["172.30.0.2", "fd00:172:30::2"])] });
    expect((await backend.write()).changes).toBeGreaterThan(0);
    opened.resolve();
    await vi.waitFor(async () => expect(await backend.audit()).toMatchObject({ kind: "drifted" }));
    expect(readings).toBe(2);
    await backend.resync();
    expect(space.run("nft list chain ip fairlead no-endpoints")).toContain("reject");
  });
});

/** Without endpoints, so there is a rule for each of its addresses in the table filter. */
function serviceAt(name: string, clusterIPs: readonly string[]): NatService {
  return {
    meta: { namespace: "shop", name, labels: {}, annotations: {} },
    type: "ClusterIP",
    clusterIPs,
    ports: [{ name: "http", protocol: "TCP", port: 80 }],
    externalIPs: [],
    loadBalancerSourceRanges: [],
    loadBalancerIngress: [],
    internalTrafficPolicy: "Cluster",
    externalTrafficPolicy: "Cluster",
  };
}
