/** A client stays with a pod. Reference §1, Session affinity; §5 for `session-cookie-hash`. */

import type { AffinityPolicy } from "../../edge-config/features/affinity.ts";
import { choice, flag, integer, text } from "../annotations/readers.ts";
import { defineFeature } from "./feature.ts";

/** RFC 6265 §4.1.1: no control, no semicolon; and no blank, which no name or path of ours needs. */
const ATTRIBUTE = {
  pattern: /^[^\s;,"\\]{1,1024}$/,
  expected: "text without blanks, quotes, commas and semicolons",
} as const;
const SECONDS = { min: -2_147_483_648 } as const;

export const affinity = defineFeature("affinity", {
  scope: "route",
  onInvalid: "omit",
  doc: "Keeps a client with a pod by a cookie that ingress-nginx would understand, so sessions survive the move.",
  annotations: {
    affinity: choice("What keeps a client with a pod.", ["cookie"]),
    "affinity-mode": choice(
      "`balanced` moves some sessions when pods come, `persistent` none.",
      ["balanced", "persistent"],
      {
        default: "balanced",
        ignoreUnreadable: true,
        difference:
          "A cookie of `balanced` mode that ingress-nginx minted is hashed by our own ring, so that session may meet another pod once.",
      },
    ),
    "session-cookie-name": text("Name of the cookie.", {
      pattern: /^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}$/,
      expected: "the name of a cookie",
      default: "INGRESSCOOKIE",
      ignoreUnreadable: true,
    }),
    "session-cookie-path": text("Path of the cookie; the rule's own path without it.", {
      ...ATTRIBUTE,
      ignoreUnreadable: true,
    }),
    "session-cookie-domain": text("Domain of the cookie; the host alone without it.", {
      ...ATTRIBUTE,
      ignoreUnreadable: true,
    }),
    "session-cookie-expires": integer("Seconds until `Expires`.", { ...SECONDS, ignoreUnreadable: true }),
    "session-cookie-max-age": integer("`Max-Age` in seconds.", { ...SECONDS, ignoreUnreadable: true }),
    "session-cookie-samesite": choice("`SameSite`.", ["None", "Lax", "Strict"], {
      ignoreCase: true,
      ignoreUnreadable: true,
    }),
    "session-cookie-conditional-samesite-none": flag(
      "Leaves `SameSite=None` out for browsers that misread it.",
      {
        default: false,
        ignoreUnreadable: true,
      },
    ),
    "session-cookie-secure": flag("`Secure` over http too; over https it is always sent.", {
      default: false,
      unreadable: true,
    }),
    "session-cookie-change-on-failure": flag("Lets a client move when its pod fails.", {
      default: false,
      ignoreUnreadable: true,
    }),
    "session-cookie-hash": choice(
      "Writes the cookie as ingress-nginx did before 0.24: a hash of the endpoint, or its place in the list.",
      ["md5", "sha1", "index"],
      {
        ignoreCase: true,
        ignoreUnreadable: true,
        difference:
          "ingress-nginx has ignored it since 0.24. `index` names another pod once the list of endpoints changes.",
      },
    ),
  },
  compile(annotations, { path, regex, remark }): AffinityPolicy | undefined {
    if (annotations.affinity === undefined) return undefined;
    const written = annotations["session-cookie-path"];
    if (written === undefined && regex && /[()[\]{}*+?|\\^$]/.test(path)) {
      remark(
        "warning",
        "session-cookie-path",
        `is needed on a host whose paths are regular expressions; the cookie's Path is ${JSON.stringify(path)} now, which no browser sends back.`,
      );
    }
    const hash = annotations["session-cookie-hash"];
    if (hash === "index") {
      remark(
        "warning",
        "session-cookie-hash",
        "is index: a cookie names a place in the list of endpoints, so it names another pod once the list changes.",
      );
    }
    const domain = annotations["session-cookie-domain"];
    const expiresSeconds = annotations["session-cookie-expires"];
    const maxAgeSeconds = annotations["session-cookie-max-age"];
    const sameSite = annotations["session-cookie-samesite"];
    return {
      mode: hash ?? annotations["affinity-mode"],
      cookie: {
        name: annotations["session-cookie-name"],
        path: written ?? (/[\s;,"\\]/.test(path) ? "/" : path),
        ...(domain === undefined ? {} : { domain }),
        ...(expiresSeconds === undefined ? {} : { expiresSeconds }),
        ...(maxAgeSeconds === undefined ? {} : { maxAgeSeconds }),
        ...(sameSite === undefined ? {} : { sameSite }),
        conditionalSameSiteNone: annotations["session-cookie-conditional-samesite-none"],
        secure: annotations["session-cookie-secure"],
      },
      changeOnFailure: annotations["session-cookie-change-on-failure"],
    };
  },
});
