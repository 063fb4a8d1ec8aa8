import { Command, Option } from "commander";
import { afterEach, expect, test, vi } from "vitest";
import { buildProgram } from "./main.ts";
import { readSwitchVariables } from "./switches.ts";

afterEach(() => vi.unstubAllEnvs());

function read(...args: readonly string[]) {
  const command = new Command("test")
    .addOption(new Option("--host-ports").env("FAIRLEAD_TEST_HOST_PORTS"))
    .addOption(new Option("--no-random").env("FAIRLEAD_TEST_RANDOM"));
  readSwitchVariables(command);
  return command.parse(args, { from: "user" }).opts();
}

test.each([
  ["true", "false", { hostPorts: true, random: false }],
  ["1", "0", { hostPorts: true, random: false }],
  ["false", "true", { random: true }],
  ["0", "1", { random: true }],
  ["", "", { random: true }],
])("%j and %j", (hostPorts, random, want) => {
  vi.stubEnv("FAIRLEAD_TEST_HOST_PORTS", hostPorts);
  vi.stubEnv("FAIRLEAD_TEST_RANDOM", random);
  expect(read()).toEqual(want);
});

test("the command line goes before the variable", () => {
  vi.stubEnv("FAIRLEAD_TEST_HOST_PORTS", "false");
  vi.stubEnv("FAIRLEAD_TEST_RANDOM", "true");
  expect(read("--host-ports", "--no-random")).toEqual({ hostPorts: true, random: false });
});

test("anything else is refused", () => {
  vi.stubEnv("FAIRLEAD_TEST_HOST_PORTS", "yes please");
  expect(() => read()).toThrow('FAIRLEAD_TEST_HOST_PORTS is "yes please"; a switch is true or false.');
});

/** What an agent is told for one run, and what takes more than one value. */
const WITHOUT_VARIABLE = ["file", "once", "dry-run", "cleanup", "cleanup-own", "init-only", "help"];

test("every setting of the agent has the variable of its name", () => {
  const agent = buildProgram().commands.find((command) => command.name() === "agent");
  const settings = (agent?.options ?? []).filter((option) => !WITHOUT_VARIABLE.includes(option.name()));
  expect(settings.length).toBeGreaterThan(30);
  expect(settings.map(({ envVar }) => envVar)).toEqual(
    settings.map(
      (option) => `FAIRLEAD_${option.name().replace(/^no-/, "").replaceAll("-", "_").toUpperCase()}`,
    ),
  );
});

test.each(["agent", "agent explain", "agent watch", "nat render", "nat trace"])(
  "a variable that is set to nothing is none: %s",
  (path) => {
    const read = (): Readonly<Record<string, unknown>> => {
      let command: Command | undefined = buildProgram();
      for (const name of path.split(" ")) command = command?.commands.find((one) => one.name() === name);
      if (command === undefined) throw new Error("no such command");
      return command
        .action(() => {})
        .parse([], { from: "user" })
        .opts();
    };
    const unset = read();
    for (const { envVar } of buildProgram().commands.find((one) => one.name() === "agent")?.options ?? [])
      if (envVar !== undefined) vi.stubEnv(envVar, "");
    expect(read()).toEqual(unset);
  },
);
