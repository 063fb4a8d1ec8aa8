/**
 * Every feature, one line each, in the order of the alphabet. The compiler names the ones that are missing.
 * Not here: in which order filters run (`worker/filter-order.ts`).
 */

import type { FeatureName } from "../../edge-config/policies.ts";
import type { Group } from "../annotations/group.ts";
import { cors } from "./cors.ts";
import type { Feature } from "./feature.ts";
import { structures } from "./structure.ts";

export const features = {
  cors,
} satisfies { readonly [N in FeatureName]: Feature<N> };

/** The same as a list, in the order of the alphabet: the order of fields in every policy. */
export const featureList: readonly Feature[] = Object.values<Feature>(features).sort((a, b) =>
  a.name < b.name ? -1 : 1,
);

/** Everything that reads annotations. */
export const groups: readonly Group[] = [...featureList, ...structures];
