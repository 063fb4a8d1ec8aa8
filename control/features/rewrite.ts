/**
 * Rewrites of the path. Reference §1, `rewrite-target`, `x-forwarded-prefix`; §5 for what they meant before 0.22.
 *
 * A target that differs from its path turns every path of the host to a regular expression, as in ingress-nginx.
 * `rewrite-mode: prefix` (ours) keeps the meaning of manifests that were written for 0.21 and earlier, and leaves
 * the host's matching as it is.
 */

import { choice, text } from "../annotations/readers.ts";
import { defineFeature } from "./feature.ts";

export const rewrite = defineFeature("rewrite", {
  scope: "route",
  onInvalid: "omit",
  doc: "Sends another path to the pod; the query stays. `$1` to `$9` are the capture groups of the rule's path.",
  annotations: {
    "rewrite-target": text(
      "The path for the pod, with `$1`…`$9` for what the groups of the rule's path matched.",
      {
        pattern: /^[A-Za-z0-9 \-._~/:$]+$/,
        expected: "a path of letters, digits, spaces and - . _ ~ / : with $1 to $9",
        type: "path with $1…$9",
      },
    ),
    "rewrite-mode": choice(
      "`prefix` gives `rewrite-target` its meaning before ingress-nginx 0.22: it replaces the rule's path, and the rest of the request's path follows. An annotation of Fairlead's own.",
      ["template", "prefix"],
      { default: "template" },
    ),
    "x-forwarded-prefix": text(
      "Value of `X-Forwarded-Prefix` for the pod; sent only where the path is rewritten.",
      {
        pattern: /^[!#%&()*+,\-./0-9:;=?@A-Z[\]_a-z~]+$/i,
        expected: "a path",
        type: "path",
      },
    ),
  },
  turnsHostToRegex: (annotations, { path }) =>
    annotations["rewrite-mode"] === "template" && isRewrite(annotations["rewrite-target"], path),
  compile(annotations, { origin, path, pathType, regex, remark }) {
    const target = annotations["rewrite-target"];
    if (origin === "catch-all" || target === undefined || !isRewrite(target, path)) return undefined;
    const prefix = annotations["x-forwarded-prefix"];
    const forwardedPrefix = prefix === undefined ? {} : { forwardedPrefix: prefix };
    if (annotations["rewrite-mode"] === "prefix") {
      return { kind: "Prefix", target: target.startsWith("/") ? target : `/${target}`, ...forwardedPrefix };
    }
    if (
      regex &&
      pathType === "Prefix" &&
      path !== "/" &&
      !/[()[\]{}*+?|\\^$]/.test(path) &&
      !target.includes("$")
    ) {
      remark(
        "info",
        "rewrite-target",
        `sends every path below ${JSON.stringify(path)} to ${JSON.stringify(target)} itself: nothing of the request's path follows, as in ingress-nginx since 0.22. To keep the rest, write the path as ${JSON.stringify(`${path.replace(/\/$/, "")}(/|$)(.*)`)} with the target "/$2", or set rewrite-mode to "prefix".`,
      );
    }
    const redirects = /^https?:\/\//.test(target);
    return {
      kind: "Template",
      target: pieces(redirects || target.startsWith("/") ? target : `/${target}`),
      redirects,
      ...forwardedPrefix,
    };
  },
});

function isRewrite(target: string | undefined, path: string): boolean {
  return target !== undefined && target !== path;
}

/** nginx reads one digit: `$10` is group 1 followed by `0`. A `$` before anything else is itself. */
function pieces(target: string): readonly (string | number)[] {
  return target
    .split(/(\$[1-9])/)
    .filter((piece) => piece !== "")
    .map((piece) => (/^\$[1-9]$/.test(piece) ? Number(piece.slice(1)) : piece));
}
