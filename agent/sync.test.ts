import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type Audit, type Backend, OneFamilyError, type Written } from "./backends/backend.ts";
import { KernelError } from "./kernel/kernel-error.ts";
import { applyNft, listStructure, listTable } from "./kernel/nft.ts";
import { createNodeHealth } from "./node-health.ts";
import { Pace } from "./pace.ts";
import { RuleSync, type SyncEvent } from "./sync.ts";
import { makeNamespace, type TestNamespace, whyNoKernel } from "./testing/namespace.ts";

/** Enough for a machine that does other things, too. */
const WAIT = { timeout: 15_000 };
const backoff = { firstMs: 20, longestMs: 40 };

/** A backend whose answers are written down beforehand; the last ones go on for ever. */
class ScriptedBackend implements Pick<Backend, "write" | "resync" | "audit"> {
  readonly calls: string[] = [];
  readonly #answers: Record<"write" | "resync", (Error | number)[]>;
  audits: Audit[] = [];

  constructor(answers: Record<"write" | "resync", (Error | number)[]>) {
    this.#answers = answers;
  }

  readonly write = (): Promise<Written> => this.#answer("write");
  readonly resync = (): Promise<Written> => this.#answer("resync");
  readonly audit = async (): Promise<Audit> => this.audits.shift() ?? { kind: "intact" };

  async #answer(kind: "write" | "resync"): Promise<Written> {
    this.calls.push(kind);
    const answers = this.#answers[kind];
    const answer = answers.length > 1 ? answers.shift() : answers[0];
    if (answer instanceof Error) throw answer;
    return { changes: answer ?? 0 };
  }
}

describe("the loop", () => {
  test("begins with a resync; a refused write is followed by one resync at once", async () => {
    const backend = new ScriptedBackend({ write: [new Error("refused"), 1], resync: [0] });
    const events: SyncEvent["kind"][] = [];
    const troubles: string[] = [];
    const sync = new RuleSync({
      backend,
      // A resync that had to wait would not come within the test.
      backoff: { firstMs: 1_000_000, longestMs: 1_000_000 },
      onSynced: ({ kind }) => events.push(kind),
      onTrouble: (message) => troubles.push(message),
    });
    sync.start();
    await vi.waitFor(() => expect(events).toEqual(["resync"]), WAIT);
    sync.changed();
    await vi.waitFor(() => expect(events).toEqual(["resync", "resync"]), WAIT);
    sync.changed();
    await vi.waitFor(() => expect(events).toEqual(["resync", "resync", "change"]), WAIT);
    expect(backend.calls).toEqual(["resync", "write", "resync", "write"]);
    expect(troubles).toEqual(["refused"]);
    expect(sync.progress("IPv4").queuedSinceMs).toBeUndefined();
    await sync.close();
  });

  test("resyncs that fail are repeated after pauses, and the change stays queued", async () => {
    const backend = new ScriptedBackend({ write: [0], resync: [new Error("a"), new Error("b"), 7] });
    const events: number[] = [];
    const troubles: string[] = [];
    const sync = new RuleSync({
      backend,
      backoff,
      onSynced: ({ changes }) => events.push(changes),
      onTrouble: (message) => {
        troubles.push(message);
        expect(sync.progress("IPv4").queuedSinceMs).toBeTypeOf("number");
      },
    });
    sync.start();
    await vi.waitFor(() => expect(events).toEqual([7]), WAIT);
    expect(troubles).toEqual(["a", "b"]);
    await sync.close();
  });

  test("a write that hangs makes the node unhealthy, whatever comes after it; its end makes it healthy", async () => {
    const ends: (() => void)[] = [];
    const backend = new ScriptedBackend({ write: [0], resync: [0] });
    const write = vi.fn(() => new Promise<Written>((resolve) => ends.push(() => resolve({ changes: 1 }))));
    const synced: SyncEvent["kind"][] = [];
    const sync = new RuleSync({ backend: { ...backend, write }, onSynced: ({ kind }) => synced.push(kind) });
    let aheadMs = 0;
    const health = createNodeHealth({
      families: ["IPv4", "IPv6"],
      progress: (family) => sync.progress(family),
      node: () => undefined,
      nodeExpected: false,
      nowMs: () => Date.now() + aheadMs,
    });
    const statuses = () => ["/healthz", "/livez"].map((path) => health.answer(path).status);
    sync.start();
    await vi.waitFor(() => expect(synced).toEqual(["resync"]), WAIT);
    sync.changed();
    await vi.waitFor(() => expect(ends).toHaveLength(1), WAIT);
    const oldest = sync.progress("IPv4").queuedSinceMs;
    expect(oldest).toBeTypeOf("number");
    expect(statuses()).toEqual([200, 200]);
    aheadMs = 60_000;
    expect(statuses()).toEqual([503, 503]);
    expect(health.isHealthy()).toBe(false);
    // A change that comes meanwhile is younger.
    sync.changed();
    expect(sync.progress("IPv4").queuedSinceMs).toBe(oldest);
    ends[0]?.();
    await vi.waitFor(() => expect(ends).toHaveLength(2), WAIT);
    ends[1]?.();
    await vi.waitFor(() => expect(synced).toEqual(["resync", "change", "change"]), WAIT);
    expect(sync.progress("IPv4").queuedSinceMs).toBeUndefined();
    expect(statuses()).toEqual([200, 200]);
    await sync.close();
  });

  test("a family that is not taken waits alone, and is told alone", async () => {
    const cause = new KernelError({ program: "ip6tables-restore", reason: "no" });
    const refused = new OneFamilyError("IPv6", cause);
    const backend = new ScriptedBackend({ write: [refused], resync: [0, refused, new Error("both"), 0] });
    const troubles: unknown[] = [];
    const waiting = () =>
      (["IPv4", "IPv6"] as const).filter((family) => sync.progress(family).queuedSinceMs !== undefined);
    const sync = new RuleSync({
      backend,
      backoff,
      onTrouble: (...trouble) => troubles.push([...trouble, waiting()]),
    });
    sync.start();
    await vi.waitFor(() => expect(waiting()).toEqual([]), WAIT);
    sync.changed();
    await vi.waitFor(() => expect(backend.calls).toHaveLength(5), WAIT);
    await vi.waitFor(() => expect(waiting()).toEqual([]), WAIT);
    const message = "ip6tables-restore refused the transaction: no.";
    expect(troubles).toEqual([
      [message, "change", { failed: ["IPv6"], synced: ["IPv4"] }, ["IPv6"]],
      [message, "resync", { failed: ["IPv6"], synced: ["IPv4"] }, ["IPv6"]],
      ["both", "resync", { failed: ["IPv4", "IPv6"], synced: [] }, ["IPv4", "IPv6"]],
    ]);
    await sync.close();
  });

  test("a drift is repaired by a resync without any change", async () => {
    const backend = new ScriptedBackend({ write: [0], resync: [0] });
    backend.audits = [{ kind: "intact" }, { kind: "drifted", what: "a chain is gone" }];
    const troubles: string[] = [];
    const sync = new RuleSync({ backend, auditPauseMs: 5, onTrouble: (message) => troubles.push(message) });
    sync.start();
    await vi.waitFor(() => expect(backend.calls).toEqual(["resync", "resync"]), WAIT);
    expect(troubles).toEqual(["a chain is gone; the rules are written anew."]);
    await sync.close();
  });

  test("a steady stream of changes does not keep a drift from being found", async () => {
    const backend = new ScriptedBackend({ write: [1], resync: [0] });
    backend.audits = [{ kind: "drifted", what: "a chain is gone" }];
    const sync = new RuleSync({
      backend,
      pace: new Pace({ firstMs: 0, longestMs: 0, ceilingMs: 0 }),
      auditPauseMs: 100,
      // Each write is followed by a change at once.
      onSynced: () => setImmediate(() => sync.changed()),
    });
    sync.start();
    await vi.waitFor(() => expect(backend.calls.filter((call) => call === "resync")).toHaveLength(2), WAIT);
    expect(backend.calls).toContain("write");
    await sync.close();
  });

  test("audits that cannot be made are told once, until one can", async () => {
    const backend = new ScriptedBackend({ write: [0], resync: [0] });
    const audits = ["full", "full", "ok", "full", "other", "end"];
    const troubles: string[] = [];
    const told = vi.fn(async (): Promise<Audit> => {
      const audit = audits.shift() ?? "ok";
      if (audit === "ok" || audit === "end") return { kind: "intact" };
      throw new Error(audit);
    });
    const sync = new RuleSync({
      backend: { ...backend, audit: told },
      auditPauseMs: 1,
      onTrouble: (message, kind) => troubles.push(`${kind}: ${message}`),
    });
    sync.start();
    await vi.waitFor(() => expect(audits).toEqual([]), WAIT);
    expect(troubles).toEqual(["unaudited: full", "unaudited: full", "unaudited: other"]);
    expect(backend.calls).toEqual(["resync"]);
    await sync.close();
  });

  test("close ends it in a pause, and nothing is written afterwards", async () => {
    const backend = new ScriptedBackend({ write: [0], resync: [new Error("no")] });
    const sync = new RuleSync({ backend, backoff: { firstMs: 1_000_000, longestMs: 1_000_000 } });
    sync.start();
    await vi.waitFor(() => expect(backend.calls).toHaveLength(1), WAIT);
    await sync.close();
    sync.changed();
    expect(backend.calls).toEqual(["resync"]);
  });
});

const reason = whyNoKernel(["nft"]);

describe.skipIf(reason !== undefined)(`with a kernel${reason === undefined ? "" : ` (${reason})`}`, () => {
  let space: TestNamespace;
  beforeAll(() => {
    space = makeNamespace("sync");
  });
  afterAll(() => space.remove());

  /** Keeps a set equal to `wanted`, as simply as can be: what matters is who calls it when. */
  class SetBackend implements Pick<Backend, "write" | "resync" | "audit"> {
    readonly wanted = new Set<string>();
    #written = new Set<string>();
    #structure: string | undefined;
    writes = 0;

    readonly write = async (): Promise<Written> => {
      // What is wanted while the kernel is at work is for the next time.
      const meant = new Set(this.wanted);
      const added = [...meant].filter((address) => !this.#written.has(address));
      if (added.length === 0) return { changes: 0 };
      await applyNft([`add element ip sync s { ${added.join(", ")} }\n`], space);
      this.#written = meant;
      this.writes++;
      return { changes: added.length };
    };

    readonly resync = async (): Promise<Written> => {
      const meant = new Set(this.wanted);
      const elements = [...meant].join(", ");
      await applyNft(
        [
          "table ip sync {\nset s { type ipv4_addr; }\nchain c { }\n}\n",
          "flush chain ip sync c\nflush set ip sync s\nadd rule ip sync c ip saddr @s accept\n",
          elements === "" ? "" : `add element ip sync s { ${elements} }\n`,
        ],
        space,
      );
      this.#written = meant;
      // Of the first time, when nobody else is at work yet: what comes later may be harmed before it is read.
      this.#structure ??= await listStructure({ family: "ip", name: "sync" }, space);
      return { changes: meant.size };
    };

    readonly audit = async (): Promise<Audit> =>
      (await listStructure({ family: "ip", name: "sync" }, space)) === this.#structure
        ? { kind: "intact" }
        : { kind: "drifted", what: "the table has changed" };
  }

  const elements = async (): Promise<readonly string[]> => {
    const listed = await listTable({ family: "ip", name: "sync" }, space);
    return new TextDecoder().decode(listed).match(/10\.0\.0\.\d+/g) ?? [];
  };

  test("changes arrive, many of them in few writes; what others break is mended; rules outlive the loop", async () => {
    const backend = new SetBackend();
    backend.wanted.add("10.0.0.1");
    const sync = new RuleSync({ backend, backoff, auditPauseMs: 20 });
    sync.start();
    await vi.waitFor(async () => expect(await elements()).toEqual(["10.0.0.1"]), WAIT);
    for (let last = 2; last <= 60; last++) {
      backend.wanted.add(`10.0.0.${last}`);
      sync.changed();
    }
    await vi.waitFor(async () => expect(await elements()).toHaveLength(60), WAIT);
    expect(backend.writes).toBeLessThan(10);

    for (const harm of ["nft flush chain ip sync c", "nft delete table ip sync", "nft flush ruleset"]) {
      space.run(harm);
      await vi.waitFor(async () => {
        expect(await elements()).toHaveLength(60);
        expect(space.run("nft list chain ip sync c")).toContain("@s accept");
      }, WAIT);
    }

    space.run("nft delete table ip sync");
    backend.wanted.add("10.0.0.61");
    sync.changed();
    await vi.waitFor(async () => expect(await elements()).toHaveLength(61), WAIT);
    await sync.close();
    expect(await elements()).toHaveLength(61);
  });
});
