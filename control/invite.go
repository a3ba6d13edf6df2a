package control

// InviteRequest asks for a join token.
type InviteRequest struct {
	Address string `json:"address,omitempty"` // where this node can be reached, host:port; "" = where it listens
	Replace bool   `json:"replace,omitempty"` // whoever joins takes the place of the present peer
}

// InviteReply is an invitation to be handed to the operator of the other node.
type InviteReply struct {
	Token   string `json:"token"`   // works once
	Address string `json:"address"` // in the token, host:port
	Expires Time   `json:"expires"`
}

// JoinRequest pairs this node with the one that made the token.
type JoinRequest struct {
	Token   string `json:"token"`
	Replace bool   `json:"replace,omitempty"` // it takes the place of the present peer
}

// JoinReply is the peer that this node is paired with now.
type JoinReply struct {
	Peer    string `json:"peer"`
	Address string `json:"address"`
	Key     string `json:"key"` // fingerprint
}
