// Package metrics gives the counters of an onload.Engine to Prometheus and to expvar.
// Programs that do not import it pay nothing for it.
//
//	e, err := onload.Default()
//	...
//	prometheus.MustRegister(metrics.New(e, metrics.Options{}))
//
// Each scrape takes a Snapshot of the engine: the lock of each stack a few times, and a system
// call for each queue. Nothing runs between scrapes.
//
// # Names
//
// A counter of onload.Stats is onload_NAME_total, where NAME is the field's in snake
// case: RxNoSocket is onload_rx_no_socket_total, Fragments.Whole is
// onload_reassembly_whole_total, TCP.ListenDrops is onload_tcp_listen_drops_total and
// TCP.TCPTimeouts is onload_tcp_timeouts_total. Those of driver.Stats are
// onload_queue_NAME_total. The help text is the field's help tag. docs/metrics.md lists
// them all.
//
// Interfaces that share stacks (see onload.TeamStats) have one series together; its label
// interface has all of their names, separated by commas. So sums over the label count
// nothing twice. Series of queues have the label interface of one interface, and queue.
//
// Programs with several engines register each by a Registerer of its own:
//
//	prometheus.WrapRegistererWith(prometheus.Labels{"engine": "a"}, r).MustRegister(...)
//
// # OpenTelemetry
//
// The bridge go.opentelemetry.io/contrib/bridges/prometheus has a reader of
// OpenTelemetry produce what a Gatherer gathers; nothing is needed here for it:
//
//	metric.NewPeriodicReader(exporter, metric.WithProducer(bridge.NewMetricProducer()))
package metrics
