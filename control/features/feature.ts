/**
 * What a feature of the edge is on the control side: a few annotations, how each is read, and how they
 * become one policy. Text of annotations is read here and in the sibling files, nowhere else.
 */

import type { FeatureName } from "../../edge-config/policies.ts";

/** How one annotation's text is read. */
export interface AnnotationType<T> {
  /** For the generated reference: `boolean`, `integer`, `comma-separated origins`, … */
  readonly type: string;
  /** One sentence for the reference. */
  readonly doc: string;
  /** The documented default, as a person would write it; absent means none. */
  readonly default?: string;
  /** The value, or a clause that completes "… was given, but …" with what was expected. */
  readonly read: (text: string) => { readonly value: T } | { readonly expected: string };
}

export type { FeatureName };
