/**
 * The local half of `wrangler.toml`: what the Worker is given on this machine.
 *
 * In: the text of the file. Out: bindings and variables for Miniflare. wrangler has a reader of its own, which takes
 * a second to load; a test holds that both read our file alike. A kind of binding that is not read here is an error, never
 * left out in silence. `[env.*]` is for deployments and does not count.
 */

import { parse } from "smol-toml";
import { z } from "zod";

export interface LocalWorkerConfig {
  readonly compatibilityDate: string;
  readonly compatibilityFlags: readonly string[];
  readonly variables: Readonly<Record<string, string>>;
  /** Ids of namespaces by binding. */
  readonly kvNamespaces: Readonly<Record<string, string>>;
  readonly durableObjects: Readonly<
    Record<string, { readonly className: string; readonly useSQLite: boolean }>
  >;
}

const file = z.strictObject({
  compatibility_date: z.string(),
  compatibility_flags: z.array(z.string()).default([]),
  vars: z.record(z.string(), z.string()).default({}),
  kv_namespaces: z.array(z.object({ binding: z.string(), id: z.string() })).default([]),
  durable_objects: z
    .strictObject({ bindings: z.array(z.strictObject({ name: z.string(), class_name: z.string() })) })
    .default({ bindings: [] }),
  migrations: z
    .array(z.strictObject({ tag: z.string(), new_sqlite_classes: z.array(z.string()).default([]) }))
    .default([]),
  // These say nothing about the Worker's environment.
  name: z.unknown(),
  main: z.unknown(),
  workers_dev: z.unknown(),
  alias: z.unknown(),
  env: z.unknown(),
});

/** Throws an error with the reason where the file is no TOML, or holds what is not read here. */
export function readWranglerConfig(text: string): LocalWorkerConfig {
  const config = file.parse(parse(text));
  const sqliteClasses = new Set(config.migrations.flatMap((migration) => migration.new_sqlite_classes));
  return {
    compatibilityDate: config.compatibility_date,
    compatibilityFlags: config.compatibility_flags,
    variables: config.vars,
    kvNamespaces: Object.fromEntries(config.kv_namespaces.map(({ binding, id }) => [binding, id])),
    durableObjects: Object.fromEntries(
      config.durable_objects.bindings.map(({ name, class_name }) => [
        name,
        { className: class_name, useSQLite: sqliteClasses.has(class_name) },
      ]),
    ),
  };
}
