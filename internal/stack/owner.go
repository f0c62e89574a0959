package stack

// Owner is Config.Owner: whose stack it is, for callers that have only a connection.
func (s *Stack) Owner() any { return s.cfg.Owner }
