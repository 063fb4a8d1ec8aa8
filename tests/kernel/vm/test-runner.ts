/**
 * What stands for `vitest` inside the virtual machine: the same words for the same tests, without Vite.
 *
 * In: a test file, bundled with this in place of `vitest`. Out: its tests run one after the other, and a report of them.
 * `expect` is vitest's own. The rest is here because starting Vite takes an emulated processor minutes, and a test file
 * of this folder needs little of it: suites, tests, tables of both, hooks and time-outs.
 */
import { writeFileSync } from "node:fs";
import { format, inspect } from "node:util";

// By its file: the name `vitest` leads here.
export { expect } from "../../../node_modules/vitest/dist/index.js";

type Body = () => unknown;

interface Test {
  readonly kind: "test";
  readonly name: string;
  readonly body: Body | undefined;
}

interface Suite {
  readonly kind: "suite";
  readonly name: string;
  readonly members: (Suite | Test)[];
  readonly beforeAll: Body[];
  readonly afterAll: Body[];
  readonly afterEach: Body[];
}

/** A test as it ended; names of its suites first. */
export interface TestResult {
  readonly suites: readonly string[];
  readonly name: string;
  readonly status: "passed" | "failed" | "skipped";
  readonly failure?: string;
}

export interface TestReport {
  readonly results: readonly TestResult[];
  /** All tests have run; false: the process ended before. */
  readonly complete: boolean;
}

/** What a test allows itself is meant for a machine that is not emulated; only one that hangs is ended. */
const TIMEOUT_MS = 15 * 60_000;

const root = newSuite("");
let current = root;

function newSuite(name: string): Suite {
  return { kind: "suite", name, members: [], beforeAll: [], afterAll: [], afterEach: [] };
}

export function describe(name: string, body: Body): void {
  const outer = current;
  current = newSuite(name);
  outer.members.push(current);
  body();
  current = outer;
}

describe.each =
  <T>(cases: readonly T[]) =>
  (name: string, body: (one: T) => unknown): void => {
    for (const one of cases) describe(nameOf(name, one), () => body(one));
  };

export function it(
  name: string,
  ...rest: readonly [Body] | readonly [{ readonly timeout?: number }, Body]
): void {
  current.members.push({ kind: "test", name, body: rest.length === 1 ? rest[0] : rest[1] });
}

it.each =
  <T>(cases: readonly T[]) =>
  (name: string, body: (one: T) => unknown): void => {
    for (const one of cases) it(nameOf(name, one), () => body(one));
  };

it.skip = (name: string): void => {
  current.members.push({ kind: "test", name, body: undefined });
};

export function beforeAll(hook: Body): void {
  current.beforeAll.push(hook);
}

export function afterAll(hook: Body): void {
  current.afterAll.push(hook);
}

export function afterEach(hook: Body): void {
  current.afterEach.push(hook);
}

/** `$name` is a field of the case. */
function nameOf(name: string, one: unknown): string {
  return name.replaceAll(/\$(\w+)/g, (whole, key: string) => {
    const value: unknown = typeof one === "object" && one !== null ? Reflect.get(one, key) : undefined;
    return value === undefined ? whole : typeof value === "string" ? value : inspect(value);
  });
}

/** Runs what the test file has declared. `only`: tests whose whole name has this in it. */
export async function runTests(reportFile: string, only: string): Promise<boolean> {
  const results: TestResult[] = [];
  const report = (complete: boolean) =>
    writeFileSync(reportFile, JSON.stringify({ results, complete } satisfies TestReport));
  const tell = (line: string) => process.stdout.write(`${line}\n`);
  const chosen = (suites: readonly string[], { name }: Test) => [...suites, name].join(" > ").includes(only);
  const hasChosen = (suite: Suite, suites: readonly string[]): boolean =>
    suite.members.some((member) =>
      member.kind === "test" ? chosen(suites, member) : hasChosen(member, [...suites, member.name]),
    );

  const end = (suites: readonly string[], { name }: Test, status: TestResult["status"], failure?: string) => {
    results.push({ suites, name, status, ...(failure !== undefined && { failure }) });
    if (status !== "passed" || results.length % 100 === 0)
      tell(`${results.length} ${status}: ${[...suites, name].join(" > ")}${failure ? `\n${failure}` : ""}`);
  };
  const fail = (suite: Suite, suites: readonly string[], failure: string): void => {
    for (const member of suite.members) {
      if (member.kind === "suite") fail(member, [...suites, member.name], failure);
      else if (chosen(suites, member)) end(suites, member, "failed", failure);
    }
  };
  const run = async (
    suite: Suite,
    suites: readonly string[],
    afterEachTest: readonly Body[],
  ): Promise<void> => {
    if (!hasChosen(suite, suites)) return;
    if (suite.name !== "") tell(`${suites.join(" > ")} …`);
    const before = await failureOf(suite.beforeAll);
    const hooks = [...suite.afterEach, ...afterEachTest];
    if (before !== undefined) fail(suite, suites, before);
    else
      for (const member of suite.members) {
        if (member.kind === "suite") await run(member, [...suites, member.name], hooks);
        else if (member.body === undefined) end(suites, member, "skipped");
        else if (chosen(suites, member)) {
          const began = performance.now();
          const failure = await failureOf([member.body]);
          const after = await failureOf(hooks);
          const failed = failure ?? after;
          end(suites, member, failed === undefined ? "passed" : "failed", failed);
          const seconds = (performance.now() - began) / 1000;
          if (seconds > 2) tell(`  ${member.name}: ${seconds.toFixed(0)} s`);
          report(false);
        }
      }
    const after = await failureOf(suite.afterAll);
    if (after !== undefined) end(suites, { kind: "test", name: "its end", body: undefined }, "failed", after);
  };
  await run(root, [], []);
  report(true);
  return results.every(({ status }) => status !== "failed");
}

async function failureOf(bodies: readonly Body[]): Promise<string | undefined> {
  for (const body of bodies) {
    let timer: NodeJS.Timeout | undefined;
    try {
      await Promise.race([
        Promise.resolve().then(body),
        new Promise((_, reject) => {
          timer = setTimeout(
            () => reject(new Error(`it took longer than ${TIMEOUT_MS / 1000} s`)),
            TIMEOUT_MS,
          );
        }),
      ]);
    } catch (error) {
      return describeFailure(error);
    } finally {
      clearTimeout(timer);
    }
  }
  return undefined;
}

/** As much of what was wanted and what came as a reader can use. */
function describeFailure(error: unknown): string {
  if (!(error instanceof Error)) return format("%s", error);
  const sides = error as { readonly actual?: unknown; readonly expected?: unknown };
  const shown = (value: unknown) => inspect(value, { depth: 8, maxArrayLength: 200, breakLength: 110 });
  const difference =
    "expected" in error && "actual" in error
      ? `\nexpected ${shown(sides.expected)}\nactual ${shown(sides.actual)}`
      : "";
  return `${error.message}${difference}\n${error.stack ?? ""}`;
}
