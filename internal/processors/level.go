package processors

// level is one cgroup on the path from the process's own to the root.
type level struct {
	max           file // v2
	quota, period file // v1
	stat          file
}

func openLevel(dir string) level {
	return level{
		max:    open(dir + "/cpu.max"),
		quota:  open(dir + "/cpu.cfs_quota_us"),
		period: open(dir + "/cpu.cfs_period_us"),
		stat:   open(dir + "/cpu.stat"),
	}
}

func (l *level) close() {
	for _, f := range []*file{&l.max, &l.quota, &l.period, &l.stat} {
		f.close()
	}
}

// limit is how many microseconds of processors' time the cgroup has in each
// period. It is not ok where there is no limit.
func (l *level) limit(buf *[]byte) (quota, period int64, ok bool) {
	if l.max != noFile {
		return parseMax(l.max.read(buf))
	}
	quota, ok = parseInt(l.quota.read(buf))
	if !ok || quota <= 0 { // -1: none
		return 0, 0, false
	}
	period, ok = parseInt(l.period.read(buf))
	return quota, period, ok && period > 0
}
