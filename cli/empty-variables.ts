/**
 * Variables that are there and empty, as a manifest has them whose value nobody gave. Commander takes one for a value, which
 * most options refuse; for the agent's it is none. (Switches are `switches.ts`.)
 */

import type { EventEmitter } from "node:events";
import type { Command } from "commander";

/** Call when the command and its subcommands have all their options. */
export function ignoreEmptyVariables(command: Command): void {
  // It is one, though its types do not tell.
  const events = command as Command & EventEmitter;
  for (const option of command.options) {
    if (option.envVar === undefined || !(option.required || option.optional)) continue;
    const event = `optionEnv:${option.name()}`;
    const listeners = events.listeners(event);
    events.removeAllListeners(event);
    events.on(event, (value: string) => {
      if (value.trim() !== "") for (const listener of listeners) listener.call(command, value);
    });
  }
  for (const child of command.commands) ignoreEmptyVariables(child);
}
