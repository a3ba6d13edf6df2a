package wire

import (
	"crypto/tls"
	"errors"
)

// protocolName is what TLS negotiates (ALPN, RFC 7301). It changes only when Hello
// or the framing do; what they carry is versioned by Hello.
const protocolName = "repld/1"

// tlsConfig pins the peer's key by admit. Certificates prove the possession of a
// key and nothing else, so that names, dates and issuers aren't looked at.
func tlsConfig(id *Identity, admit func(Fingerprint) error) *tls.Config {
	return &tls.Config{
		Certificates:           []tls.Certificate{id.certificate},
		ServerName:             "repld",
		NextProtos:             []string{protocolName},
		MinVersion:             tls.VersionTLS13,
		ClientAuth:             tls.RequireAnyClientCert,
		InsecureSkipVerify:     true, // VerifyConnection is what verifies
		SessionTicketsDisabled: true, // so that each handshake asks for the key that holds now
		VerifyConnection: func(state tls.ConnectionState) error {
			peer, err := peerKey(state)
			if err != nil {
				return err
			}
			return admit(peer)
		},
	}
}

func peerKey(state tls.ConnectionState) (Fingerprint, error) {
	if len(state.PeerCertificates) == 0 {
		return Fingerprint{}, errors.New("the peer has no certificate")
	}
	return certificateFingerprint(state.PeerCertificates[0])
}
