/**
 * Which requests go to the canary. Reference §1, Canary. The annotations are those of the canary Ingress;
 * `canary: "true"`, which makes it one, is read by `structure.ts`.
 */

import { compilePattern } from "../../edge-config/pattern/loaded.ts";
import { type Reader, unreadable, value } from "../annotations/reader.ts";
import { choice, headerName, integer, text } from "../annotations/readers.ts";
import { defineFeature } from "./feature.ts";

export const canary = defineFeature("canary", {
  scope: "canary",
  // Without its rules the canary gets no requests, which is the state before it was made.
  onInvalid: "omit",
  doc: "Sends some requests to the backend of a canary Ingress: by header, then by cookie, then by weight.",
  annotations: {
    "canary-by-header": headerName("Header whose value `always` or `never` decides."),
    "canary-by-header-value": text("The value of the header that leads to the canary, instead of `always`.", {
      maxLength: 1024,
    }),
    "canary-by-header-pattern": safePattern(
      "A pattern that the header's value must match; ignored beside canary-by-header-value.",
    ),
    "canary-by-cookie": text("Cookie whose value `always` or `never` decides.", {
      pattern: /^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}$/,
      expected: "the name of a cookie",
    }),
    "canary-weight": integer("Of `canary-weight-total` requests so many.", {
      default: 0,
      ignoreUnreadable: true,
    }),
    "canary-weight-total": integer("What the weight is a part of; 100 or less counts as 100.", {
      default: 100,
      ignoreUnreadable: true,
    }),
    "affinity-canary-behavior": choice(
      "`sticky`: a client with a session cookie stays where it is, whatever the rules say; `legacy`: the rules are asked for each request.",
      ["sticky", "legacy"],
      {
        default: "sticky",
        ignoreUnreadable: true,
      },
    ),
  },
  compile(annotations, { canaryBackend }) {
    const name = annotations["canary-by-header"];
    const given = annotations["canary-by-header-value"];
    const pattern = annotations["canary-by-header-pattern"];
    const cookie = annotations["canary-by-cookie"];
    const weight = annotations["canary-weight"];
    if (name === undefined && cookie === undefined && weight === 0) return undefined;
    return {
      backend: canaryBackend,
      ...(name === undefined
        ? {}
        : {
            header: {
              name: name.toLowerCase(),
              match:
                given !== undefined
                  ? { kind: "Value", value: given }
                  : pattern !== undefined
                    ? { kind: "Pattern", pattern }
                    : { kind: "AlwaysNever" },
            },
          }),
      ...(cookie === undefined ? {} : { cookie }),
      weight,
      weightTotal: Math.max(100, annotations["canary-weight-total"]),
      sticky: annotations["affinity-canary-behavior"] === "sticky",
    };
  },
});

function safePattern(doc: string): Reader<string> {
  return {
    type: "regular expression",
    doc,
    maxLength: 1024,
    options: {},
    read(given) {
      const compiled = compilePattern(given, { ignoreCase: false });
      return compiled.kind === "pattern"
        ? value(given)
        : unreadable(`a regular expression for a linear-time engine (this one ${compiled.reason})`);
    },
  };
}
