package binlog

// server is what a server says of itself.
type server struct {
	version string
	id      uint64  // server_id
	base    history // transactions that it has and no binary log of it has, nor what a log says came before it
	vars    row
}
