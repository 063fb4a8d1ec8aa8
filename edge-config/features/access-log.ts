/** Whether requests of a route are logged. Absent: as the edge does. */
export interface AccessLogPolicy {
  readonly enabled: false;
}
