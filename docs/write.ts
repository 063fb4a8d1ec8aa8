/** `npm run docs`: writes the pages of this folder that are made from the code. */

import { writeFileSync } from "node:fs";
import { annotationReference } from "../control/annotations/reference.ts";

writeFileSync(new URL("annotations.md", import.meta.url), annotationReference());
