import { execFileSync } from "node:child_process";
import { mkdtempSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeNamespace, type TestNamespace, whyNoKernel } from "../testing/namespace.ts";
import {
  applyNft,
  deleteTables,
  listStructure,
  listStructures,
  listTable,
  listTables,
  nftError,
  spoolTable,
} from "./nft.ts";
import { UnlinkedFile } from "./unlinked-file.ts";

describe("what nft says", () => {
  const pieces = [
    "table ip a { }\n",
    `add element ip a m { ${"10.0.0.1 . tcp . 80, ".repeat(100)}10.0.0.300 }\n`,
  ];

  test.each([
    [
      "/dev/stdin:1:14-14: Error: syntax error, unexpected '}'\ntable ip a { }\n             ^\n",
      "nft refused the transaction at line 1 (table ip a { }): syntax error, unexpected '}'.",
    ],
    [
      "/dev/stdin:1:1-5: Error: Could not process rule: No such file or directory\ntable\n",
      "nft refused the transaction at line 1 (table ip a { }): No such file or directory.",
    ],
    ["netlink: Error: Message too long\n", "nft refused the transaction: Message too long."],
    ["", "nft refused the transaction: it ended with code 1."],
  ])("%j", (errors, message) => {
    expect(nftError({ code: 1, errors }, pieces).message).toBe(message);
  });

  test("of a long line only the place is shown", () => {
    const column = (pieces[1] ?? "").indexOf("10.0.0.300") + 1;
    const error = nftError({ code: 1, errors: `/dev/stdin:2:${column}-${column}: Error: bad\n` }, pieces);
    expect(error.details.text).toMatch(/^….*10\.0\.0\.300 }$/);
    expect(error.details.text?.length).toBeLessThan(180);
  });
});

const reason = whyNoKernel(["nft"]);

describe.skipIf(reason !== undefined)(
  `nft in a namespace${reason === undefined ? "" : ` (${reason})`}`,
  () => {
    let space: TestNamespace;
    const table = { family: "ip", name: "fairlead-test" } as const;
    beforeAll(() => {
      space = makeNamespace("nft");
    });
    afterAll(() => space.remove());

    const TABLE = `table ip fairlead-test {
    map m { type ipv4_addr . inet_service : ipv4_addr; counter; }
    chain c { counter accept; }
  }
  `;

    test("a transaction is applied whole or not at all, and the error names the line", async () => {
      await applyNft([TABLE], space);
      const wrong = [
        "add element ip fairlead-test m { 10.0.0.1 . 80 : 10.1.0.1 }\n",
        "add chain ip nowhere c\n",
      ];
      await expect(applyNft(wrong, space)).rejects.toMatchObject({
        details: { line: 2, text: "add chain ip nowhere c", reason: "No such file or directory" },
      });
      expect(space.run("nft list map ip fairlead-test m")).not.toContain("10.0.0.1");
    });

    test("nothing to apply starts no program", async () => {
      await applyNft([], { through: ["/no/such/program"] });
      await applyNft(["", ""], { through: ["/no/such/program"] });
    });

    test("structure has rules without elements, counters and other tables", async () => {
      space.run("nft add table ip aside; nft add chain ip aside fairlead-test");
      space.run("nft 'add element ip fairlead-test m { 10.0.0.1 . 80 : 10.1.0.1 }'");
      const structure = await listStructure(table, space);
      expect(structure).toContain("chain c {\n\t\tcounter accept\n");
      expect(structure).toContain("map m {");
      expect(structure).not.toContain("10.0.0.1");
      expect(structure).not.toContain("aside");
      space.run("nft flush chain ip fairlead-test c");
      expect(await listStructure(table, space)).not.toBe(structure);
      expect(await listStructure({ family: "ip6", name: "fairlead-test" }, space)).toBeUndefined();
    });

    test("the table has its elements", async () => {
      expect(new TextDecoder().decode(await listTable(table, space))).toContain("10.0.0.1 . 80");
      expect(await listTable({ family: "ip", name: "none" }, space)).toBeUndefined();
    });

    describe("a folder without much room", () => {
      const folder = mkdtempSync(join(tmpdir(), "fairlead-small-"));
      const small = [folder];
      beforeAll(() => execFileSync("mount", ["-t", "tmpfs", "-o", "size=16k", "tmpfs", folder]));
      afterAll(() => {
        execFileSync("umount", [folder]);
        rmdirSync(folder);
      });

      test("a listing that is cut is none; another folder may have room for it", async () => {
        const elements = Array.from({ length: 2_000 }, (_, n) => `10.9.${n >> 8}.${n & 255} . 80 : 10.1.0.1`);
        await applyNft([`add element ip fairlead-test m { ${elements.join(", ")} }\n`], space);
        const rules = "add rule ip fairlead-test c counter accept\n".repeat(1_000);
        await applyNft([rules], space);
        await expect(listStructures([table], { ...space, folders: small })).rejects.toThrow(
          "The listing of all tables found no room to be written to.",
        );
        expect(await listStructure(table, { ...space, folders: [...small, tmpdir()] })).toContain("counter");
        await expect(spoolTable(table, { ...space, folders: small })).rejects.toMatchObject({
          reason: "output",
          message: "The listing of table ip fairlead-test found no room to be written to.",
        });
        const file = await spoolTable(table, { ...space, folders: [...small, tmpdir()] });
        expect(file?.endsWith("\t}\n}\n")).toBe(true);
        file?.close();
      });

      test("what a program reads goes where there is room, and a file that found none leaves none behind", () => {
        const pieces = ["x".repeat(40_000)];
        expect(() => UnlinkedFile.of(pieces, small)).toThrow(
          `No folder of ${folder} can be written to: ENOSPC`,
        );
        const file = UnlinkedFile.of(pieces, [...small, tmpdir()]);
        expect(file.whole()).toHaveLength(40_000);
        file.close();
        UnlinkedFile.of(["x".repeat(10_000)], small).close();
      });
    });

    test("every table is listed, also one without chains; where there is none, none is", async () => {
      space.run("nft add table ip6 empty");
      expect(await listTables(space)).toEqual(
        expect.arrayContaining([table, { family: "ip", name: "aside" }, { family: "ip6", name: "empty" }]),
      );
      space.run("nft delete table ip6 empty");
      const bare = makeNamespace("bare");
      try {
        expect(await listTables(bare)).toEqual([]);
        expect(await listStructures([table], bare)).toEqual([undefined]);
      } finally {
        bare.remove();
      }
    });

    test("tables that are there and tables that are not are deleted, others stay", async () => {
      await deleteTables([table, { family: "ip6", name: "fairlead-test" }], space);
      expect(space.run("nft list tables").trim()).toBe("table ip aside");
    });
  },
);
