package netns

import "sync"

type job struct {
	h    Handle
	fn   func() error
	done chan<- error
}

var spawner = sync.OnceValue(func() chan<- job {
	jobs := make(chan job)
	go onThread(func() error {
		home, err := Current()
		for j := range jobs {
			if err == nil {
				j.done <- spawn(home, j)
			} else {
				j.done <- err
			}
		}
		return nil
	})
	return jobs
})

func spawn(home Handle, j job) error {
	if !j.h.IsZero() {
		if err := j.h.enter(); err != nil {
			return err
		}
		defer func() {
			if err := home.enter(); err != nil {
				panic("netns: the way back is barred: " + err.Error())
			}
		}()
	}
	return j.fn()
}

// Spawn is Do for starting child processes: fn runs on a thread that lives as
// long as the process. Pdeathsig strikes when the thread that started a child
// ends, and only on this one that means the end of the process. One fn runs at
// a time, and none may panic.
func (h Handle) Spawn(fn func() error) error {
	done := make(chan error, 1)
	spawner() <- job{h, fn, done}
	return <-done
}
