/**
 * Every feature, one line each, in the order of the alphabet. The compiler names the ones that are missing.
 * Not here: in which order filters run (`worker/pipeline.ts`).
 */

import type { FeatureName } from "../../edge-config/policies.ts";
import { appRoot } from "./app-root.ts";
import { cors } from "./cors.ts";
import type { Feature } from "./feature.ts";
import { redirect } from "./redirect.ts";
import { rewrite } from "./rewrite.ts";
import { sslRedirect } from "./ssl-redirect.ts";
import { upstreamVhost } from "./upstream-vhost.ts";
import { wwwRedirect } from "./www-redirect.ts";

export const features = {
  appRoot,
  cors,
  redirect,
  rewrite,
  sslRedirect,
  upstreamVhost,
  wwwRedirect,
} satisfies { readonly [N in FeatureName]: Feature<N> };

/** The same as a list, in the order of the alphabet: the order of fields in every policy. */
export const featureList: readonly Feature[] = Object.values<Feature>(features).sort((a, b) =>
  a.name < b.name ? -1 : 1,
);
