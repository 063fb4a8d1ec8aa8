import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeNamespace, type TestNamespace, whyNoKernel } from "../testing/namespace.ts";
import {
  planRemoval,
  removeChains,
  restoreError,
  restoreIptables,
  saveIptables,
  systemVariant,
} from "./iptables.ts";

const isOurs = (chain: string): boolean => chain.startsWith("KUBE-");

test("removal takes our chains and the jumps to them, and leaves the rest", () => {
  const saved = `# Generated
*nat
:PREROUTING ACCEPT [1:2]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-A - [0:0]
:OTHER - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -j OTHER
[5:6] -A OTHER -s 10.0.0.0/8 -g KUBE-SVC-A
-A OTHER -m comment --comment "not -j KUBE-SERVICES" -j RETURN
-A KUBE-SERVICES -j KUBE-SVC-A
COMMIT
`;
  expect(planRemoval(saved, isOurs)).toBe(`*nat
:KUBE-SERVICES - [0:0]
:KUBE-SVC-A - [0:0]
-D PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-D OTHER -s 10.0.0.0/8 -g KUBE-SVC-A
-X KUBE-SERVICES
-X KUBE-SVC-A
COMMIT
`);
  expect(planRemoval("*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n", isOurs)).toBeUndefined();
});

test("a chain for others stays while one of theirs leads to it, and their rule with it", () => {
  const saved = (more: string): string => `*nat
:KUBE-MARK-MASQ - [0:0]
:KUBE-SVC-A - [0:0]
:CNI-DN-abc - [0:0]
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-SVC-A -j KUBE-MARK-MASQ
${more}COMMIT
`;
  const isForOthers = (chain: string): boolean => chain === "KUBE-MARK-MASQ";
  expect(planRemoval(saved("-A CNI-DN-abc -j KUBE-MARK-MASQ\n"), isOurs, isForOthers)).toBe(`*nat
:KUBE-SVC-A - [0:0]
-X KUBE-SVC-A
COMMIT
`);
  const unused = planRemoval(saved("-A CNI-DN-abc -j KUBE-SVC-A\n"), isOurs, isForOthers);
  expect(unused).toContain("-X KUBE-MARK-MASQ\n");
});

test("a message without a line stands for itself", () => {
  const errors = "iptables-restore v1.8.9 (legacy): Another app is currently holding the xtables lock.\n";
  expect(restoreError("iptables-legacy-restore", { code: 4, errors }, []).message).toBe(
    "iptables-legacy-restore refused the transaction: Another app is currently holding the xtables lock.",
  );
});

const reason = whyNoKernel(["iptables-legacy-restore", "iptables-nft-restore"]);
const variants = [
  { family: "IPv4", variant: "legacy" },
  { family: "IPv4", variant: "nft" },
  { family: "IPv6", variant: "legacy" },
  { family: "IPv6", variant: "nft" },
] as const;

test("the plain names stand for one of the variants", async () => {
  if (reason === undefined) expect(["legacy", "nft"]).toContain(await systemVariant());
  expect(await systemVariant({ through: ["/no/such/program"] })).toBeUndefined();
});

describe.skipIf(reason !== undefined)(
  `iptables in a namespace${reason === undefined ? "" : ` (${reason})`}`,
  () => {
    describe.each(variants)("$variant $family", (programs) => {
      let space: TestNamespace;
      beforeAll(() => {
        space = makeNamespace("ipt");
      });
      afterAll(() => space.remove());

      test("a partial transaction leaves other rules alone", async () => {
        await restoreIptables(programs, ["*nat\n:MINE - [0:0]\n-A MINE -j RETURN\nCOMMIT\n"], space);
        await restoreIptables(programs, ["*nat\n:KUBE-A - [0:0]\n-A PREROUTING -j KUBE-A\nCOMMIT\n"], space);
        const saved = await saveIptables(programs, "nat", space);
        expect(saved).toContain("-A MINE -j RETURN");
        expect(saved).toContain("-A PREROUTING -j KUBE-A");
      });

      test("text that was cut short changes nothing", async () => {
        await expect(
          restoreIptables(programs, ["*nat\n:CUT - [0:0]\n-A CUT -j RETURN\n"], space),
        ).rejects.toThrow(/COMMIT expected/);
        expect(await saveIptables(programs, "nat", space)).not.toContain("CUT");
      });

      test.each([
        ["-A KUBE-A -j NOPE", /NOPE/],
        ["-A NOCHAIN -j RETURN", /refused the transaction at line 3/],
        ["-D KUBE-A -j ACCEPT", /refused the transaction at line 3/],
        ["-A KUBE-A --bogus", /bogus/],
      ])("%s is refused by line and text", async (rule, message) => {
        const failure = await restoreIptables(
          programs,
          ["*nat\n:KUBE-A - [0:0]\n", `${rule}\nCOMMIT\n`],
          space,
        ).catch((error: unknown) => error);
        expect(failure).toMatchObject({
          details: { line: 3, text: rule },
          message: expect.stringMatching(message),
        });
      });

      test("chains are removed with everything that jumps to them, and only once", async () => {
        const chains =
          "*nat\n:KUBE-B - [0:0]\n:KUBE-C - [0:0]\n-A KUBE-B -j KUBE-C\n-A MINE -j KUBE-B\nCOMMIT\n";
        await restoreIptables(programs, [chains], space);
        expect(await removeChains(programs, isOurs, space)).toBe(true);
        const saved = await saveIptables(programs, "nat", space);
        expect(saved).not.toContain("KUBE-");
        expect(saved).toContain("-A MINE -j RETURN");
        expect(await removeChains(programs, isOurs, space)).toBe(false);
      });
    });
  },
);
