package wire

// WriteControl puts bytes on the control stream that no Send would put there.
func WriteControl(c *Conn, b []byte) error {
	_, err := c.control.Write(b)
	return err
}
