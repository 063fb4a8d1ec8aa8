/**
 * User name and password. Reference §1, `auth-type`, `auth-secret`, `auth-secret-type`, `auth-realm`.
 *
 * Whatever cannot be read or found denies the route: it never becomes an open door. Digest is refused: it needs the
 * passwords themselves, and browsers have dropped its algorithms.
 */

import type { Secret } from "../../cluster/model.ts";
import { choice, reference, text } from "../annotations/readers.ts";
import { defineFeature, deny } from "./feature.ts";

export const basicAuth = defineFeature("basicAuth", {
  scope: "route",
  onInvalid: "deny",
  doc: "Asks for a user name and a password. A verified password is remembered for a short time under a keyed hash, so that a costly hash is not paid on every request.",
  annotations: {
    "auth-type": choice("How clients prove who they are.", ["basic", "digest"], {
      difference: "`basic` only; `digest` denies the route.",
    }),
    "auth-secret": reference("The Secret with the users.", "Secret"),
    "auth-secret-type": choice(
      "`auth-file`: the key `auth` holds an htpasswd file. `auth-map`: each key is a user, its value a hash.",
      ["auth-file", "auth-map"],
      {
        default: "auth-file",
      },
    ),
    "auth-realm": text("What the browser shows when it asks.", {
      pattern: /^[^"\\]{0,256}$/,
      expected: "text without quotes and backslashes",
    }),
  },
  compile(annotations, context) {
    const type = annotations["auth-type"];
    if (type === undefined) return undefined;
    if (type === "digest")
      return deny("digest authentication is not offered; use basic authentication over https");
    const named = annotations["auth-secret"];
    if (named === undefined) return deny("auth-type is given, but auth-secret names no Secret");
    const found = context.secret(named);
    if (found.kind === "Missing") return deny(found.reason, "auth-secret");
    const users =
      annotations["auth-secret-type"] === "auth-file" ? usersOfFile(found.object) : usersOfMap(found.object);
    if (users === undefined)
      return deny(`Secret ${found.name} has no key "auth" with an htpasswd file`, "auth-secret");
    return {
      realm: annotations["auth-realm"] ?? "",
      users: { kind: "secret", text: users.map(([user, hash]) => `${user}:${hash}\n`).join("") },
    };
  },
});

type User = readonly [user: string, hash: string];

/** Comments, CR LF, a third field and a missing last newline are fine; the first line of a user counts. */
function usersOfFile({ data }: Secret): readonly User[] | undefined {
  const file = data.get("auth");
  if (file === undefined) return undefined;
  const users = new Map<string, string>();
  for (const line of new TextDecoder().decode(file).split(/\r?\n/)) {
    const [user = "", hash = ""] = line.split(":");
    if (line.startsWith("#") || user === "" || users.has(user)) continue;
    users.set(user, hash.trim());
  }
  return [...users].sort(([a], [b]) => (a < b ? -1 : 1));
}

function usersOfMap({ data }: Secret): readonly User[] {
  return Array.from(
    data,
    ([user, hash]): User => [user, new TextDecoder().decode(hash).trim().split(/\r?\n/)[0] ?? ""],
  )
    .filter(([user]) => !user.includes(":"))
    .sort(([a], [b]) => (a < b ? -1 : 1));
}
