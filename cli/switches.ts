/**
 * Variables of switches. Commander looks only whether such a variable is there, so that `FAIRLEAD_HOST_PORTS=false` would
 * turn host ports on; here `true` and `1`, `false` and `0` mean what they say, and an empty one is none.
 */

import type { Command, Option } from "commander";
import { UsageError } from "./failure.ts";

/** Call for every command that has options; throws a `UsageError` while the command line is read. */
export function readSwitchVariables(command: Command): void {
  for (const option of command.options) {
    const { envVar } = option;
    const takesValue = option.required || option.optional;
    if (envVar === undefined || takesValue) continue;
    // Commander's own listener came first; this one corrects what it made of the variable.
    command.on(`optionEnv:${option.name()}`, () => {
      const value = switchValue(envVar, process.env[envVar] ?? "") ?? defaultOf(option);
      command.setOptionValueWithSource(
        option.attributeName(),
        value === false && !option.negate ? undefined : value,
        "env",
      );
    });
  }
}

/** What the feature is without the variable: a `--no-…` switch turns off what is on. */
function defaultOf({ negate }: Option): boolean {
  return negate;
}

function switchValue(name: string, text: string): boolean | undefined {
  switch (text.trim().toLowerCase()) {
    case "":
      return undefined;
    case "true":
    case "1":
      return true;
    case "false":
    case "0":
      return false;
    default:
      throw new UsageError(`${name} is ${JSON.stringify(text)}; a switch is true or false.`);
  }
}
