/** The entry page of a host: an `if` of nginx's server level, so it comes before any route. */

import { redirectPage } from "../error-page.ts";
import type { HostFilterFor } from "./filter.ts";

export const appRoot: HostFilterFor<"appRoot"> = ({ location }) => ({
  // The normalised path, so that `//` and `/x/..` count; port and case of Host are kept, the query is dropped.
  onRequest: ({ path, target }) =>
    path === "/" ? redirectPage(302, `${target.scheme}://${target.authority}${location}`) : undefined,
});
