package proxy

// Routes is the table, for tests that sweep over it.
var Routes = routes
