/* Stands where the bootloader would. */
void app_main(void)
{
    for (;;) {
    }
}
