package ask

// Stop tells the process that the peer has seen enough. What the process still has to say
// comes by Next.
func (a *Asking) Stop() error {
	_, err := a.c.File().Write([]byte("\n"))
	return err
}
